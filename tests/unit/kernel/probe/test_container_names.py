# SPDX-License-Identifier: Apache-2.0
"""Names of containers and pods, in trees laid out as kubelet, containerd, Docker, Podman and CRI-O
lay them out."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slabmon.base.workloads import WorkloadNames
from slabmon.kernel.probe import container_names as module
from slabmon.kernel.probe.container_names import SEARCH_SECONDS, ContainerNames

UID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
STATIC = "0123456789abcdef0123456789abcdef"
WEB = WorkloadNames("nginx", "web-7d9c5b8f6-x2x4k", "shop")


def container_id(number: int) -> str:
    return f"{number:064x}"


def in_pod(uid: str, number: int) -> str:
    return f"/kubepods/burstable/pod{uid}/{container_id(number)}"


def docker(number: int) -> str:
    return f"/system.slice/docker-{container_id(number)}.scope"


class Node:
    """A host's folders, and a clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 0.0
        self.names = ContainerNames(root, lambda: self.now)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run_in_pod(self, names: WorkloadNames, uid: str, number: int) -> None:
        """Lay out the logs of a container as kubelet does: a folder for the pod, one in it for the
        container, and a link whose name says all."""
        folder = f"var/log/pods/{names.namespace}_{names.pod}_{uid}/{names.container}"
        self.write(f"{folder}/0.log", "")
        links = self.root / "var/log/containers"
        links.mkdir(parents=True, exist_ok=True)
        name = f"{names.pod}_{names.namespace}_{names.container}-{container_id(number)}.log"
        (links / name).symlink_to(f"/{folder}/0.log")

    def run_in_docker(self, name: str, number: int) -> None:
        state = {"ID": container_id(number), "Name": f"/{name}", "Config": {"Labels": {}}}
        folder = f"var/lib/docker/containers/{container_id(number)}"
        self.write(f"{folder}/config.v2.json", json.dumps(state))

    def store(self, *containers: tuple[int, str]) -> None:
        """Lay out what containers/storage keeps, for Podman and CRI-O."""
        entries = [
            {
                "id": container_id(number),
                "names": [name],
                "image": "",
                "layer": "",
                "metadata": json.dumps({"image-name": "docker.io/library/nginx", "name": name}),
                "created": "2026-01-31T03:00:00Z",
            }
            for number, name in containers
        ]
        folder = "var/lib/containers/storage/overlay-containers"
        self.write(f"{folder}/containers.json", json.dumps(entries))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_containers_of_pods_have_the_names_of_kubelets_links(node: Node) -> None:
    node.run_in_pod(WEB, UID, 1)
    node.run_in_pod(WorkloadNames("log-shipper", WEB.pod, WEB.namespace), UID, 2)
    assert node.names.names([in_pod(UID, 1), in_pod(UID, 2), "/system.slice"]) == {
        container_id(1): WEB,
        container_id(2): WorkloadNames("log-shipper", WEB.pod, WEB.namespace),
        UID: WorkloadNames("", WEB.pod, WEB.namespace),
    }


def test_a_container_without_a_log_has_the_names_of_its_pod(node: Node) -> None:
    """The pause container."""
    node.run_in_pod(WEB, UID, 1)
    found = node.names.names([in_pod(UID, 7)])
    assert found == {UID: WorkloadNames("", WEB.pod, WEB.namespace)}


def test_static_pods_have_a_hash_for_their_uid(node: Node) -> None:
    names = WorkloadNames("etcd", "etcd-node1.example", "kube-system")
    node.run_in_pod(names, STATIC, 3)
    found = node.names.names([f"/kubepods/pod{STATIC}/{container_id(3)}"])
    assert found[container_id(3)] == names
    assert found[STATIC].pod == "etcd-node1.example"


def test_containers_of_docker(node: Node) -> None:
    node.run_in_docker("registry", 1)
    node.run_in_docker("shop-db-1", 2)
    assert node.names.names([docker(1), f"/docker/{container_id(2)}"]) == {
        container_id(1): WorkloadNames("registry"),
        container_id(2): WorkloadNames("shop-db-1"),
    }


def test_containers_of_podman_and_crio(node: Node) -> None:
    name = f"k8s_nginx_web-0_shop_{UID}_0"
    node.store((1, "backup"), (2, name), (3, f"k8s_POD_web-0_shop_{UID}_0"))
    paths = [
        f"/machine.slice/libpod-{container_id(1)}.scope/container",
        f"/kubepods.slice/crio-{container_id(2)}.scope",
        f"/kubepods.slice/crio-{container_id(3)}.scope",
    ]
    assert node.names.names(paths) == {
        container_id(1): WorkloadNames("backup"),
        container_id(2): WorkloadNames("nginx", "web-0", "shop"),
        container_id(3): WorkloadNames("", "web-0", "shop"),
    }


@contextmanager
def engine(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A server on a unix socket that answers one request."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def listing(*containers: tuple[int, str]) -> bytes:
    rows = [{"Id": container_id(n), "Names": [f"/{name}"], "State": "x"} for n, name in containers]
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(rows).encode()


def test_docker_is_asked_where_its_data_is_elsewhere(node: Node) -> None:
    with engine(node.root / "run/docker.sock", listing((1, "registry"), (2, "other"))) as asked:
        assert node.names.names([docker(1)]) == {container_id(1): WorkloadNames("registry")}
    assert asked == [b"GET /containers/json?all=1 HTTP/1.0\r\nHost: localhost\r\n\r\n"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 403 Forbidden\r\n\r\n[]",
        b"HTTP/1.0 200 OK\r\n\r\nnot JSON",
        b'HTTP/1.0 200 OK\r\n\r\n{"Id": 1}',
        b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000,
    ],
)
def test_an_answer_that_is_not_understood_names_nothing(node: Node, answer: bytes) -> None:
    with engine(node.root / "run/docker.sock", answer):
        assert node.names.names([docker(1)]) == {}


def test_an_engine_that_does_not_answer_is_not_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SOCKET_SECONDS", 0.01)
    (node.root / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(node.root / "run/docker.sock"))
        listener.listen()
        assert node.names.names([docker(1)]) == {}


@pytest.mark.parametrize("text", ["", "{", '{"Name": 7}', '{"Name": ""}', "[]", "[" * 100_000])
def test_files_that_are_damaged_name_nothing(node: Node, text: str) -> None:
    node.write(f"var/lib/docker/containers/{container_id(1)}/config.v2.json", text)
    node.write("var/lib/containers/storage/overlay-containers/containers.json", text)
    assert node.names.names([docker(1)]) == {}


def test_what_is_no_regular_file_is_not_read(node: Node) -> None:
    """A pipe would keep the collector waiting for a writer."""
    folder = node.root / "var/lib/docker/containers" / container_id(1)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "config.v2.json")
    assert node.names.names([docker(1)]) == {}


def test_a_file_that_is_too_long_is_not_read(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.run_in_docker("registry", 1)
    monkeypatch.setattr(module, "_MOST_BYTES", 20)
    assert node.names.names([docker(1)]) == {}


def test_names_are_made_harmless(node: Node) -> None:
    node.run_in_docker("evil\x1b[2J\n‮" + "x" * 1000, 1)
    node.run_in_pod(WorkloadNames("c", "evil\x1b\udcff", "ns"), UID, 2)
    names = node.names.names([docker(1), in_pod(UID, 2)])
    assert names[container_id(1)].container.startswith("evil\\x1b[2J\\n\\u202ex")
    assert len(names[container_id(1)].container) == 256
    assert names[container_id(2)].pod == names[UID].pod == "evil\\x1b\\xff"


def test_a_container_that_is_gone_keeps_its_names(node: Node) -> None:
    node.run_in_docker("registry", 1)
    node.names.names([docker(1)])
    (node.root / "var/lib/docker/containers" / container_id(1) / "config.v2.json").unlink()
    node.now += 2 * SEARCH_SECONDS
    assert node.names.names([docker(1)]) == {container_id(1): WorkloadNames("registry")}


def test_a_container_that_starts_later_is_found_by_the_next_search(node: Node) -> None:
    assert node.names.names([docker(1)]) == {}
    node.run_in_docker("registry", 1)
    assert node.names.names([docker(1)]) == {}
    node.now += SEARCH_SECONDS
    assert node.names.names([docker(1)]) == {container_id(1): WorkloadNames("registry")}


def test_ids_without_a_name_are_searched_for_seldom(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers come and go faster than a search takes on a large host."""
    searches: list[float] = []
    monkeypatch.setattr(ContainerNames, "_search", lambda self, ids: searches.append(node.now))
    for number in range(600):
        node.now = 0.1 * number
        node.names.names([docker(number)])
    assert searches == [0.0, 30.0]


def test_names_that_nobody_asks_for_are_forgotten_when_there_are_too_many(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 10)
    for number in range(50):
        node.run_in_docker(f"job{number}", number)
    found = node.names.names(docker(number) for number in range(50))
    assert len(found) == 50
    assert node.names.names([docker(7)]) == {container_id(7): WorkloadNames("job7")}
    assert len(node.names._names) == 11


def test_folders_of_any_length_are_read_in_bounds(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_ENTRIES", 3)
    for number in range(9):
        node.run_in_pod(WorkloadNames("c", f"pod-{number}", "ns"), UID, number)
    assert len(node.names.names(in_pod(UID, number) for number in range(9))) <= 4
