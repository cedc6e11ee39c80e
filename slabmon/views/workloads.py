# SPDX-License-Identifier: Apache-2.0
"""Columns with what runs in a cgroup, as people know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabmon.views.columns import Column, Kind, TableFigures

if TYPE_CHECKING:
    from slabmon.base.arrays import Values
    from slabmon.views.table import Table

_HELP = {
    "workload": "What runs in it: NAMESPACE/POD/CONTAINER, the container, the systemd unit, or "
    "its path.",
    "unit": "Innermost systemd unit.",
    "container": "Name of the container, else the beginning of its id.",
    "pod": "Name of the Kubernetes pod, else its uid.",
    "namespace": "Kubernetes namespace of the pod.",
    "container_id": "Id of the container.",
    "pod_uid": "Uid of the pod.",
}
_ATTRIBUTES = {"workload": "label", "container": "shown_container", "pod": "shown_pod"}


def cgroups_note(table: Table) -> str:
    """Return why cgroups are not those that people know, "" if they are."""
    from slabmon.model import State  # only here: it imports numpy

    feature = table.window.snapshot.features.get("cgroups")
    return "" if feature is None or feature.state == State.ON else feature.reason


def workload_columns(cgroup: str | int) -> tuple[Column, ...]:
    """Return columns with what runs in the cgroup whose path is an attribute of the rows or, in
    grouped rows, at the position of a dimension."""

    def column(name: str) -> Column:
        def get(table: TableFigures) -> Values:
            paths = table.label(cgroup) if isinstance(cgroup, int) else table.now(cgroup)
            return table.workloads(paths, _ATTRIBUTES.get(name, name))

        searched = name == "workload"  # the others are parts of it, or of the path
        return Column(name=name, kind=Kind.LABEL, help=_HELP[name], get=get, searched=searched)

    return tuple(map(column, _HELP))
