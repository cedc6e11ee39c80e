# SPDX-License-Identifier: Apache-2.0
"""Real workloads: programs that hosts run, each in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import ClassVar

import psutil

from slabmon.bench.peers import Absent

_START_SECONDS, _STOP_SECONDS = 30.0, 10.0
_FUNCTIONS = 200  # of the source file that is compiled
_FILE_BYTES = 4096  # that the web server sends
_POSTGRES = Path("/usr/lib/postgresql")  # Debian's versions, one directory each


class Command(ABC):
    """One kind of program. `unit` is what it does many of, `needs` the programs that not every host
    has, `package` Debian's that they are in."""

    name: ClassVar[str]
    about: ClassVar[str]
    unit: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str] = ""

    def __init__(self, folder: Path) -> None:
        """Use an empty directory. Nothing is started yet."""
        self.folder = folder

    def prepare(self) -> None:
        """Make ready. Raises Absent if it cannot run here; close() ends what it has started."""
        self.need(*self.needs)

    @abstractmethod
    def run(self, count: int) -> int:
        """Do the work `count` times. Return the number of units."""

    def cpu_seconds(self) -> float:
        """Return the CPU time of this process, of its children that ended, and of servers."""
        usages = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End what it started."""

    def need(self, *programs: str) -> None:
        """Raise Absent unless these programs are installed."""
        for program in programs:
            if shutil.which(program) is None:
                raise Absent(f"{program} is not installed; Debian: {self.package or program}")

    def call(self, *arguments: str, count: int = 1, user: str | None = None) -> None:
        """Run a command so many times. Raises Absent if it fails."""
        for _ in range(count):
            done = subprocess.run(
                arguments,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                user=user,
                env={**os.environ, "LC_ALL": "C"},
            )
            if done.returncode:
                lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
                raise Absent(f"{arguments[0]} failed with {done.returncode}: {lines[-1]}")


def _library() -> str:
    """Return a directory of thousands of files that every host with slabmon has: Python's."""
    return sysconfig.get_path("stdlib")


class ForkExec(Command):
    """Processes that end at once."""

    name, about, unit = "fork and exec", "/bin/true as a process", "processes"

    def run(self, count: int) -> int:
        """Run them one after the other."""
        for _ in range(10 * count):
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        return 10 * count


class Find(Command):
    """Look-ups of path names, and their inodes."""

    name, about, unit = "find", "find by size over Python's library", "walks"

    def run(self, count: int) -> int:
        """Walk through it."""
        self.call("find", _library(), "-size", "+1M", count=count)
        return count


class Tar(Command):
    """Files that are read."""

    name, about, unit = "tar", "Python's library into a pipe", "archives"

    def run(self, count: int) -> int:
        """Archive it."""
        self.call("sh", "-c", 'tar -cf - -C "$0" . | cat > /dev/null', _library(), count=count)
        return count


class GitStatus(Command):
    """A work tree that git looks at."""

    name, about, unit = "git status", "in a repository of Python's library", "calls"
    needs, package = ("git",), "git"

    def prepare(self) -> None:
        """Copy the sources and commit them."""
        super().prepare()
        left_out = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages", "test*")
        shutil.copytree(_library(), self.folder / "tree", ignore=left_out, symlinks=True)
        self._git = ("git", "-C", "tree", "-c", "user.name=slabmon", "-c", "user.email=slabmon@")
        self.call("git", "init", "-q", "tree")
        self.call(*self._git, "add", "-A")
        self.call(*self._git, "commit", "-q", "-m", "library")

    def run(self, count: int) -> int:
        """Ask for the status."""
        self.call(*self._git, "status", "--porcelain", count=count)
        return count


class Compile(Command):
    """A compiler: mostly user space."""

    name, about, unit = "compile", "a C file, with optimisation", "files"
    needs, package = ("cc",), "gcc libc6-dev"

    def prepare(self) -> None:
        """Write the source."""
        super().prepare()
        body = "for (int i = 0; i < n; i++) s += printf(names[i % 2], strlen(names[i % 2]) + s);"
        functions = "\n".join(
            f"int f{i}(int n, char **names) {{ int s = {i}; {body} return s; }}"
            for i in range(_FUNCTIONS)
        )
        headers = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
        (self.folder / "source.c").write_text(headers + functions)
        self.call("cc", "-O1", "-w", "-c", "source.c", "-o", "object.o")

    def run(self, count: int) -> int:
        """Compile it."""
        self.call("cc", "-O1", "-w", "-c", "source.c", "-o", "object.o", count=count)
        return count


class Server(Command):
    """A server and its client, both on this host."""

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet."""
        super().__init__(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, user: str | None = None, ready: Sequence[str]) -> None:
        """Start the server, and wait until the command `ready` succeeds. Raises Absent if it does
        not."""
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                arguments,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=user,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return self.call(*ready, user=user)
            except Absent as error:
                problem = str(error)
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                lines = (self.folder / "output").read_text(errors="replace").splitlines()
                raise Absent(f"{arguments[0]} did not start: {(lines or [problem])[-1]}")
            time.sleep(0.1)

    def cpu_seconds(self) -> float:
        """Return the CPU time of both."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        total = super().cpu_seconds()
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def close(self) -> None:
        """End the server."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
                break
        self._process = None


class Redis(Server):
    """Short requests over a unix socket."""

    name, about, unit = "redis", "redis-benchmark, SET and GET, 20 clients", "requests"
    needs = ("redis-server", "redis-benchmark", "redis-cli")
    package = "redis-server redis-tools"

    def prepare(self) -> None:
        """Start it."""
        super().prepare()
        self._socket = str(self.folder / "redis.sock")
        settings = ("--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no")
        self.start("redis-server", *settings, ready=("redis-cli", "-s", self._socket, "ping"))

    def run(self, count: int) -> int:
        """Send requests."""
        each = str(1000 * count)
        self.call(
            "redis-benchmark", "-s", self._socket, "-q", "-t", "set,get", "-c", "20", "-n", each
        )
        return 2000 * count


class Nginx(Server):
    """A connection for each request."""

    name, about, unit = "nginx", f"a file of {_FILE_BYTES} bytes, a connection each", "requests"
    needs, package = ("nginx", "ab"), "nginx-light apache2-utils"

    def prepare(self) -> None:
        """Start it."""
        super().prepare()
        folder = self.folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder.chmod(0o755)
        (folder / "file").write_bytes(bytes(_FILE_BYTES))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {paths}\n"
            f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
        )
        self._url = f"http://127.0.0.1:{port}/file"
        configuration = str(folder / "nginx.conf")
        self.start("nginx", "-c", configuration, ready=("ab", "-n", "1", self._url))

    def run(self, count: int) -> int:
        """Fetch the file."""
        self.call("ab", "-q", "-c", "8", "-n", str(200 * count), self._url)
        return 200 * count


class Postgres(Server):
    """Queries by key."""

    name, about, unit = "postgres", "pgbench, read only, 4 clients", "transactions"
    package = "postgresql"

    def prepare(self) -> None:
        """Make a database and start it."""
        folder = self.folder
        found = sorted(_POSTGRES.glob("*/bin/initdb"))
        if not found:
            self.need("initdb")
        programs = found[-1].parent if found else Path(shutil.which("initdb") or "").parent
        user = None
        if os.geteuid() == 0:  # which postgres refuses to run as
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, user)
        self._user = user
        data, place = str(folder / "data"), ("-h", str(folder), "-U", "slabmon", "postgres")
        self.call(str(programs / "initdb"), "-D", data, "-U", "slabmon", "-A", "trust", user=user)
        self._pgbench = str(programs / "pgbench")
        if not os.access(self._pgbench, os.X_OK):
            self.need("pgbench")
            self._pgbench = "pgbench"
        options = ("-k", str(folder), "-c", "listen_addresses=", "-F")
        ready = (str(programs / "psql"), *place[:-1], "-d", "postgres", "-c", "SELECT 1")
        self.start(str(programs / "postgres"), "-D", data, *options, user=user, ready=ready)
        self._place = place
        self.call(self._pgbench, "-i", "-q", *place, user=user)

    def run(self, count: int) -> int:
        """Send queries."""
        each = str(100 * count)
        self.call(self._pgbench, "-n", "-S", "-c", "4", "-t", each, *self._place, user=self._user)
        return 400 * count


COMMANDS: tuple[type[Command], ...] = (
    ForkExec,
    Find,
    Tar,
    GitStatus,
    Compile,
    Redis,
    Nginx,
    Postgres,
)
