# SPDX-License-Identifier: Apache-2.0
"""Names of containers and pods, from what kubelet and container runtimes keep on disk.

| source | names |
|---|---|
| /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log | containers of pods: kubelet's links |
| /var/log/pods/NAMESPACE_POD_UID/ | pods: kubelet's folders of logs |
| /var/lib/docker/containers/ID/config.v2.json | containers of Docker |
| /var/lib/containers/storage/overlay-containers/*containers.json | those of Podman and CRI-O |
| /run/docker.sock: GET /containers/json | those of Docker whose data is elsewhere |

None of them is needed: what is missing, unreadable or damaged names nothing.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from slabmon.base.escape import escape
from slabmon.base.workloads import WorkloadNames, of_path

# Names kept besides those of the containers asked for now: of the ones asked for last.
MAX_NAMES = 8192
# Between searches for ids without a name.
SEARCH_SECONDS = 30.0
_MOST_ENTRIES, _MOST_FILES = 1 << 14, 256  # of one folder; of Docker, in one search
_MOST_BYTES, _MOST_LIST_BYTES = 1 << 20, 16 << 20  # of one container's file; of a list of all
_LONGEST_NAME = 256
_SOCKET_SECONDS = 0.5
_LOG = re.compile(r"([^_]+)_([^_]+)_(.+)-([0-9a-f]{64})\.log")
_POD_FOLDER = re.compile(r"([^_]+)_([^_]+)_([0-9a-f-]+)")
# Names that the kubelet gave to containers of Docker, and CRI-O to those in its storage:
# k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT.
_KUBERNETES = re.compile(r"k8s_([^_]+)_([^_]+)_([^_]+)_[^_]+_\d+")
_SANDBOX = "POD"  # the container that only holds the namespaces of a pod
_DecodedT = TypeVar("_DecodedT")


class _DockerContainer(msgspec.Struct):
    """config.v2.json."""

    Name: str = ""


class _ListedContainer(msgspec.Struct):
    """An entry of Docker's GET /containers/json."""

    Id: str = ""
    Names: list[str] | None = None


class _StoredContainer(msgspec.Struct):
    """An entry of containers.json of containers/storage."""

    id: str = ""
    names: list[str] | None = None


class ContainerNames:
    """Names of containers and pods by id. Those of a container that is gone are kept."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        """`root` is the folder in which var and run are."""
        self._clock = clock
        self._containers = root / "var/log/containers"
        self._pods = root / "var/log/pods"
        self._docker = root / "var/lib/docker/containers"
        self._storage = root / "var/lib/containers/storage/overlay-containers"
        self._socket = root / "run/docker.sock"
        self._names: dict[str, WorkloadNames] = {}  # least recently asked for first
        self._searched: float | None = None

    def names(self, paths: Iterable[str]) -> dict[str, WorkloadNames]:
        """Return the names of the containers and pods that run in these cgroups, by id."""
        workloads = [of_path(path) for path in paths]
        ids = {w.container_id for w in workloads} | {w.pod_uid for w in workloads}
        ids.discard("")
        missing = ids - self._names.keys()
        now = self._clock()
        if missing and (self._searched is None or now - self._searched >= SEARCH_SECONDS):
            self._searched = now
            self._search(missing)
        known = {each: self._names.pop(each) for each in sorted(ids) if each in self._names}
        for each in list(self._names)[: max(0, len(self._names) - MAX_NAMES)]:
            del self._names[each]
        self._names |= known
        return known

    def _search(self, missing: set[str]) -> None:
        for source in (
            self._of_logs,
            self._of_pods,
            lambda: self._of_docker(missing - self._names.keys()),
            self._of_storage,
            self._of_socket,
        ):
            if missing <= self._names.keys():
                return
            self._names |= {each: names for each, names in source() if each in missing}

    def _of_logs(self) -> Iterator[tuple[str, WorkloadNames]]:
        for name in _entries(self._containers):
            if match := _LOG.fullmatch(name):
                pod, namespace, container, container_id = match.groups()
                yield container_id, _names(container, pod, namespace)

    def _of_pods(self) -> Iterator[tuple[str, WorkloadNames]]:
        for name in _entries(self._pods):
            if match := _POD_FOLDER.fullmatch(name):
                namespace, pod, uid = match.groups()
                yield uid, _names("", pod, namespace)

    def _of_docker(self, ids: Iterable[str]) -> Iterator[tuple[str, WorkloadNames]]:
        for each in sorted(ids)[:_MOST_FILES]:
            data = _read(self._docker / each / "config.v2.json", _MOST_BYTES)
            container = _decode(data, _DockerContainer)
            if container is not None and container.Name:
                yield each, _of_runtime(container.Name)

    def _of_storage(self) -> Iterator[tuple[str, WorkloadNames]]:
        for name in ("containers.json", "volatile-containers.json"):
            data = _read(self._storage / name, _MOST_LIST_BYTES)
            for stored in _decode(data, list[_StoredContainer]) or ():
                if stored.names:
                    yield stored.id, _of_runtime(stored.names[0])

    def _of_socket(self) -> Iterator[tuple[str, WorkloadNames]]:
        data = _ask(self._socket, "/containers/json?all=1")
        for listed in _decode(data, list[_ListedContainer]) or ():
            if listed.Names:
                yield listed.Id, _of_runtime(listed.Names[0])


def _names(container: str, pod: str, namespace: str) -> WorkloadNames:
    """Return names that are harmless in every output."""
    return WorkloadNames(
        *(
            escape(name.encode("utf-8", "surrogateescape"))[:_LONGEST_NAME]
            for name in (container, pod, namespace)
        )
    )


def _of_runtime(name: str) -> WorkloadNames:
    """Return what the name of a container says in its runtime. Docker's begin with a slash."""
    name = name.removeprefix("/")
    if match := _KUBERNETES.fullmatch(name):
        container, pod, namespace = match.groups()
        return _names("" if container == _SANDBOX else container, pod, namespace)
    return _names(name, "", "")


def _entries(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= _MOST_ENTRIES:
                    return
                yield entry.name
    except OSError:
        return


def _read(path: Path, most: int) -> bytes:
    """Return a regular file of at most `most` bytes, b"" if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return b""
        try:
            return file.read(most)
        except OSError:
            return b""


def _decode(data: bytes, kind: type[_DecodedT]) -> _DecodedT | None:
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError):
        return None


def _ask(path: Path, resource: str) -> bytes:
    """Return the body of the answer to a GET request on a unix socket, b"" if there is none within
    _SOCKET_SECONDS. In HTTP/1.0 it ends with the connection."""
    answer = bytearray()
    deadline = time.monotonic() + _SOCKET_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(_SOCKET_SECONDS)
            connection.connect(os.fspath(path))
            connection.sendall(f"GET {resource} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            while part := connection.recv(1 << 16):
                answer += part
                left = deadline - time.monotonic()
                if left <= 0 or len(answer) > _MOST_LIST_BYTES:
                    return b""
                connection.settimeout(left)
        except OSError:
            return b""
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    return body if re.match(rb"HTTP/1\.[01] 200 ", head) else b""
