# SPDX-License-Identifier: Apache-2.0
"""Panels: every one has a title, a description, a unit, and queries with legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table
from grafana_foundation_sdk.builders import timeseries as graph
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.queries import Query, about, gauge, metric, rate, top, unit_of

SOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 9  # of all panels but those of one figure: below, the third row of a legend is cut off
BARS = 6  # have their names above them
# Where all is 0, an axis would end at 100.
SOFT_MAX = {"percentunit": 0.01, "cps": 0.01, "short": 1}
Panel = graph.Panel | stat.Panel | table.Panel | bargauge.Panel


def _targets(queries: Sequence[Query], instant: bool = False) -> list[prometheus.Dataquery]:
    targets = []
    for number, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number))
        target = target.datasource(SOURCE)
        target = target.instant() if instant else target.range()
        targets.append(target.legend_format(query.legend) if query.legend else target)
    return targets


def series(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    stacked: bool = False,
    link: str = "",
) -> graph.Panel:
    """Return a graph of values over time. `link` is the URL of each series' data link."""
    panel = (
        graph.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(width)
        .height(HEIGHT)
        # Areas over each other hide the lines of those behind.
        .fill_opacity(25 if stacked else 0)
        .show_points(kinds.VisibilityMode.NEVER)
        .targets(_targets(queries))  # type: ignore[arg-type]
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull"])
            # A panel shows three rows of its legend: the largest.
            .sort_by("Last *")
            .sort_desc(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(kinds.TooltipDisplayMode.MULTI)
            .sort(kinds.SortOrder.DESCENDING)
        )
    )
    if unit in SOFT_MAX:
        panel = panel.axis_soft_min(0).axis_soft_max(SOFT_MAX[unit])
    if stacked:  # areas are compared, from 0 on
        mode = common.StackingConfig().mode(kinds.StackingMode.NORMAL)
        panel = panel.stacking(mode).axis_soft_min(0)
    return panel.data_links([_link(link)]) if link else panel


def of_metric(
    title: str,
    name: str,
    *,
    legend: str,
    more: str = "",
    width: int = 12,
    matchers: Sequence[str] = (),
    link: str = "",
) -> graph.Panel:
    """Return a graph of the ten largest series of one metric; of a counter, its rates."""
    expr = (rate if metric(name).kind == "counter" else gauge)(name, *matchers)
    return series(
        title, about(name, more), unit_of(name), Query(top(expr), legend), width=width, link=link
    )


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    alarm: float | None = None,
    low: bool = False,
    width: int = 4,
) -> stat.Panel:
    """Return a panel of one figure, red from `alarm` on, or below it if `low`."""
    steps = [model.Threshold(None, "green")]
    if alarm is not None:
        steps = [
            model.Threshold(None, "red" if low else "green"),
            model.Threshold(alarm, "green" if low else "red"),
        ]
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(width)
        .height(4)
        .targets(_targets([Query(expr, title)]))  # type: ignore[arg-type]
        .thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def rows(
    title: str,
    description: str,
    unit: str,
    expr: str,
    columns: Mapping[str, str],
    *,
    width: int = 12,
    link: str = "",
) -> table.Panel:
    """Return a table of present values, largest first.

    `columns` maps labels to their titles, in order, ending with `Value`; any cell follows `link`.
    """
    order = {label: index for index, label in enumerate(columns)}
    target = _targets([Query(expr)], instant=True)[0].format(PromQueryFormat.TABLE)
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(width)
        .height(HEIGHT)
        .targets([target])
        .filterable(True)
        .sort_by([common.TableSortByFieldState().display_name(columns["Value"]).desc(True)])
        .transformations(
            [
                model.DataTransformerConfig(
                    "filterFieldsByName", options={"include": {"names": list(columns)}}
                ),
                model.DataTransformerConfig(
                    "organize",
                    options={
                        "indexByName": order,
                        "renameByName": dict(columns),
                        "excludeByName": {},
                    },
                ),
            ]
        )
    )
    return panel.data_links([_link(link)]) if link else panel


def bars(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int = 12,
    histogram: bool = False,
) -> bargauge.Panel:
    """Return a bar gauge of the largest present values; of a histogram, of each bucket's own."""
    shown = query if histogram else replace(query, expr=top(query.expr, BARS))
    targets = _targets([shown], instant=True)
    if histogram:
        targets[0].format(PromQueryFormat.HEATMAP)
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(width)
        .height(HEIGHT)
        .targets(targets)  # type: ignore[arg-type]
        .display_mode(kinds.BarGaugeDisplayMode.BASIC)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        # Else bars begin at the least value, and are red from 80 on.
        .min(0)
        .thresholds(
            dashboard.ThresholdsConfig()
            .mode(model.ThresholdsMode.ABSOLUTE)
            .steps([model.Threshold(None, "green")])
        )
    )
    # Names above few bars would be so large that they are cut off; beside many bars, where Grafana
    # leaves room for names of its own size, those of another size would be.
    sizes = common.VizTextDisplayOptions().title_size(14).value_size(16)
    return panel if histogram else panel.text(sizes)


def _link(url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink("Show").url(url)
