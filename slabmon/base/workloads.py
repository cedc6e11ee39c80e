# SPDX-License-Identifier: Apache-2.0
"""What runs in a cgroup, as people know it: a systemd unit, a container, a pod.

Container runtimes and the kubelet write the ids of containers and pods into cgroup paths, in the
forms of their two cgroup drivers: `systemd`, with slices and scopes, and `cgroupfs`. The names for
these ids are kept elsewhere (slabmon/kernel/probe/container_names.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from slabmon.base.fields import Text

# docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, nerdctl-ID.scope; of the
# cgroupfs driver ID, crio-ID, libpod-ID; SLICE:cri-containerd:ID where the drivers of kubelet and
# containerd differ.
_ID, _SEPARATORS = re.compile("[0-9a-f]{64}"), ("", "-", ":")
_MONITOR = "-conmon-"  # the process that podman and CRI-O start beside each container
# kubepods-burstable-podUID.slice with "_" for "-", or podUID. Static pods have a hash for UID.
_UUID = "[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"
_POD = re.compile(rf"(?:.*-)?pod({_UUID}|[0-9a-f]{{32}})(?:\.slice)?(?::.*)?")
# LXC, LXD and Incus: lxc.payload.NAME, on cgroup v1 lxc/NAME; systemd-nspawn.
_NAMED = re.compile(r"lxc\.payload\.(.+)|systemd-nspawn@(.+)\.service")
_UNITS, _SLICE = {"service", "scope", "socket", "mount", "swap"}, "slice"
REMOVED = "[removed]"  # the last part of the path of removed cgroups whose names are gone
_ID_LENGTH = 64
_PATHS = 1 << 16  # that are remembered
_SHOWN = 12  # characters of a container's id, as in `docker ps`


class WorkloadNames(NamedTuple):
    """Names for the id of a container or pod; "" where there is none."""

    container: Text = ""
    pod: Text = ""
    namespace: Text = ""


_NAMELESS = WorkloadNames()


class Workload(NamedTuple):
    """What runs in one cgroup; "" where that is not known. `unit` is the innermost systemd unit."""

    cgroup: str
    unit: str = ""
    container_id: str = ""
    pod_uid: str = ""
    container: str = ""
    pod: str = ""
    namespace: str = ""

    @property
    def label(self) -> str:
        """The name that people know it by: NAMESPACE/POD/CONTAINER, else the container, else the
        systemd unit, else the path of the cgroup. Slices, and removed children of a cgroup, are
        known by their path."""
        if self.cgroup.endswith(REMOVED):
            return self.cgroup
        container = self.container or self.container_id[:_SHOWN]
        if self.pod or self.pod_uid:
            pod = f"{self.namespace}/{self.pod}" if self.pod else f"pod {self.pod_uid}"
            return f"{pod}/{container}" if container else pod
        unit = "" if _is_slice(self.unit) else self.unit
        return container or unit or self.cgroup

    @property
    def shown_pod(self) -> str:
        """The name of the pod, else its uid."""
        return self.pod or self.pod_uid

    @property
    def shown_container(self) -> str:
        """The name of the container, else the beginning of its id."""
        return self.container or self.container_id[:_SHOWN]


@lru_cache(_PATHS)
def of_path(path: str) -> Workload:
    """Return what the path of a cgroup says, without names that are kept elsewhere."""
    unit = container_id = pod_uid = container = above = ""
    for part in path.removeprefix("/").split("/"):
        if "pod" in part and (match := _POD.fullmatch(part)):
            pod_uid = match[1].replace("_", "-")
        container_id = _container_id(part) or container_id
        if above == "lxc":
            container = part
        elif match := _NAMED.fullmatch(part):
            container = match[1] or match[2]
        if ":" not in part:
            suffix = part.rpartition(".")[2]
            if suffix in _UNITS or (suffix == _SLICE and (not unit or _is_slice(unit))):
                unit = part
        above = part
    return Workload(path, unit, container_id, pod_uid, container)


def _container_id(part: str) -> str:
    """Return the id of the container that a part of a path is of, "" if it is of none."""
    name = part.removesuffix(".scope")
    container_id, before = name[-_ID_LENGTH:], name[:-_ID_LENGTH]
    if before[-1:] not in _SEPARATORS or before.endswith(_MONITOR):
        return ""
    return container_id if _ID.fullmatch(container_id) else ""


def _is_slice(unit: str) -> bool:
    return unit.endswith(".slice")


def named(path: str, names: Mapping[str, WorkloadNames]) -> Workload:
    """Return what runs in a cgroup, with the names of its container and pod by their ids."""
    workload = of_path(path)
    if not names or not (workload.container_id or workload.pod_uid):
        return workload
    known = names.get(workload.container_id, _NAMELESS)
    of_pod = names.get(workload.pod_uid, _NAMELESS)
    return Workload(
        *workload[:4],
        known[0] or workload.container,
        known[1] or of_pod[1],
        known[2] or of_pod[2],
    )
