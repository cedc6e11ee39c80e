# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the dashboards: variables, links between them, rows and positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from dashboards.panels import SOURCE, Panel
from dashboards.queries import metric, select

TAG = "slabmon"
# The metric that variables are looked up in: one series per host, present even without a reading.
HOSTS = "slabmon_up"
TO_HOST = (
    "/d/slabmon-host?${datasource:queryparam}&${job:queryparam}"
    "&var-instance=${__field.labels.instance}&${__url_time_range}"
)
TO_DEVICE = (
    "/d/slabmon-device?${datasource:queryparam}&${job:queryparam}"
    "&var-instance=${__field.labels.instance}&var-driver=${__field.labels.driver}"
    "&${__url_time_range}"
)
TO_HOST_FROM_TABLE = TO_HOST.replace("${__field.labels.instance}", "${__data.fields.Host}")


def choice(name: str, label: str, query: str, all_value: str) -> dashboard.QueryVariable:
    """Return a variable of several values, all of them by default."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(all_value)
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def label_choice(name: str, metric_name: str) -> dashboard.QueryVariable:
    """Return a variable of the values of a label that may be empty."""
    assert name in metric(metric_name).labels
    query = f"label_values({select(f'slabmon_{metric_name}')}, {name})"
    return choice(name, name.capitalize(), query, ".*")


def board(
    uid: str,
    title: str,
    description: str,
    rows: Mapping[str, Sequence[Panel]],
    more: Sequence[dashboard.QueryVariable] = (),
) -> dashboard.Dashboard:
    """Return a dashboard of titled rows of panels, whose widths fill lines of 24.

    `more` are variables in addition to data source, job and instance.
    """
    result = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .refresh("1m")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("slabmon")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(choice("job", "Job", f"label_values({HOSTS}, job)", ".+"))
        .with_variable(
            choice("instance", "Instance", f'label_values({HOSTS}{{job=~"$job"}}, instance)', ".+")
        )
    )
    for variable in more:
        result = result.with_variable(variable)
    number = 0
    for name, panels in rows.items():
        number += 1
        result = result.with_row(dashboard.Row(name).id(number))
        for panel in panels:
            number += 1
            result = result.with_panel(cast(dashboard.Panel, panel.id(number)))
    return result
