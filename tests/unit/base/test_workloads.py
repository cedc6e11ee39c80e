# SPDX-License-Identifier: Apache-2.0
"""What runs in a cgroup, by paths as systemd, kubelet and container runtimes make them."""

from __future__ import annotations

import pytest

from slabmon.base.workloads import Workload, WorkloadNames, named, of_path

ID = "3f4b5c6d7e8f90123f4b5c6d7e8f90123f4b5c6d7e8f90123f4b5c6d7e8f9012"
OTHER = "a" * 64
UID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
UNDERSCORED = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
PODS = "/kubepods.slice/kubepods-burstable.slice"


@pytest.mark.parametrize(
    ("path", "container", "pod"),
    [
        (f"/system.slice/docker-{ID}.scope", ID, ""),
        (f"/docker/{ID}", ID, ""),
        (f"/docker/{ID}/init.scope", ID, ""),
        (f"/docker/{OTHER}/docker/{ID}", ID, ""),  # Docker in Docker
        (f"/system.slice/nerdctl-{ID}.scope", ID, ""),
        (f"/default/{ID}", ID, ""),  # containerd's namespace, then the container
        (f"/machine.slice/libpod-{ID}.scope/container", ID, ""),
        (f"/machine.slice/libpod-conmon-{ID}.scope", "", ""),
        (f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope", ID, ""),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ID, ""),
        (f"/libpod_parent/libpod-{ID}", ID, ""),
        (f"{PODS}/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope", ID, UID),
        (f"{PODS}/kubepods-burstable-pod{UNDERSCORED}.slice/crio-{ID}.scope", ID, UID),
        (f"{PODS}/kubepods-burstable-pod{UNDERSCORED}.slice/crio-conmon-{ID}.scope", "", UID),
        (f"{PODS}/kubepods-burstable-pod{UNDERSCORED}.slice/docker-{ID}.scope", ID, UID),
        (f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope", ID, UID),
        (f"{PODS}/kubepods-burstable-pod{STATIC}.slice/crio-{ID}.scope/container", ID, STATIC),
        (f"{PODS}/kubepods-burstable-pod{UNDERSCORED}.slice", "", UID),
        (f"/kubepods/burstable/pod{UID}/{ID}", ID, UID),
        (f"/kubepods/besteffort/pod{UID}/crio-{ID}", ID, UID),
        (f"/kubepods/pod{STATIC}/{ID}", ID, STATIC),
        (
            "/system.slice/containerd.service/"
            f"kubepods-burstable-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
            ID,
            UID,
        ),
        (
            f"/docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/"
            f"kubelet-kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
            ID,
            UID,
        ),
        ("/system.slice/sshd.service", "", ""),
        (f"/system.slice/{ID[:-1]}", "", ""),
        (f"/system.slice/pod-{UID}.service", "", ""),
        ("/", "", ""),
        ("[1234]", "", ""),
    ],
)
def test_ids_of_containers_and_pods_are_in_the_path(path: str, container: str, pod: str) -> None:
    workload = of_path(path)
    assert (workload.container_id, workload.pod_uid) == (container, pod)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/sshd.service", "sshd.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/user.slice/user-0.slice/session-3.scope", "session-3.scope"),
        ("/user.slice/user-1.slice/user@1.service/app.slice/ff.service", "ff.service"),
        ("/user.slice/user-1.slice", "user-1.slice"),
        ("/system.slice/dev-hugepages.mount", "dev-hugepages.mount"),
        (f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope"),
        ("/kubepods/burstable", ""),
        ("/", ""),
    ],
)
def test_the_unit_is_the_innermost_one(path: str, unit: str) -> None:
    assert of_path(path).unit == unit


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/lxc.payload.web", "web"),
        ("/lxc.payload.web/system.slice/nginx.service", "web"),
        ("/lxc/web/init.scope", "web"),  # cgroup v1
        ("/machine.slice/systemd-nspawn@build.service/payload", "build"),
        ("/lxc.monitor.web", ""),
    ],
)
def test_system_containers_have_their_names_in_the_path(path: str, name: str) -> None:
    assert of_path(path).container == name


POD_PATH = f"{PODS}/kubepods-burstable-pod{UNDERSCORED}.slice"
NAMES = {
    ID: WorkloadNames("nginx", "web-0", "shop"),
    OTHER: WorkloadNames("registry"),
    UID: WorkloadNames("", "web-0", "shop"),
}


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (f"{POD_PATH}/cri-containerd-{ID}.scope", "shop/web-0/nginx"),
        (f"{POD_PATH}/cri-containerd-{'b' * 64}.scope", f"shop/web-0/{'b' * 12}"),
        (POD_PATH, "shop/web-0"),
        (f"/kubepods/pod{STATIC}/{'b' * 64}", f"pod {STATIC}/{'b' * 12}"),
        (f"/docker/{OTHER}", "registry"),
        (f"/docker/{'b' * 64}", "b" * 12),
        ("/system.slice/sshd.service", "sshd.service"),
        ("/lxc.payload.web", "web"),
        ("/batch/job7", "/batch/job7"),
        ("/user.slice/user-1000.slice", "/user.slice/user-1000.slice"),
        ("/system.slice/cron.service/[removed]", "/system.slice/cron.service/[removed]"),
        ("/", "/"),
    ],
)
def test_the_label_is_the_name_that_people_know(path: str, label: str) -> None:
    assert named(path, NAMES).label == label


def test_names_of_the_pod_do_for_containers_without_their_own() -> None:
    found = named(f"{POD_PATH}/cri-containerd-{'b' * 64}.scope", NAMES)
    assert (found.container, found.pod, found.namespace) == ("", "web-0", "shop")
    assert (found.shown_container, found.shown_pod) == ("b" * 12, "web-0")


def test_a_path_may_have_thousands_of_parts() -> None:
    """As many as a user to whom a cgroup is delegated makes."""
    path = "/user.slice/user-1000.slice/user@1000.service" + "/a" * 2000
    assert of_path(path).unit == "user@1000.service"


def test_without_names_the_ids_remain() -> None:
    path = f"/kubepods/pod{UID}/{ID}"
    assert named(path, {}) == Workload(path, "", ID, UID)
    assert named(path, {}).shown_pod == UID
