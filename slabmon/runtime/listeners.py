# SPDX-License-Identifier: Apache-2.0
"""Listening sockets, bound while privileged: TCP, unix, or passed by systemd."""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from slabmon.base.errors import PermissionDenied, SlabmonError, UsageError

log = logging.getLogger(__name__)

DEFAULT_SOCKET = "/run/slabmon/slabmon.sock"
# Members of this group may connect to the unix socket, besides root.
GROUP = "slabmon"
_BACKLOG = 1024
_FIRST_PASSED = 3
# What socket() and bind() fail with where IPv6 is switched off (ipv6.disable=1, disable_ipv6).
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def inherited(environment: MutableMapping[str, str] = os.environ) -> list[tuple[str, int]]:
    """Return name and number of the descriptors that systemd passed to this process
    (sd_listen_fds(3)), made non-inheritable. The variables are removed from the environment."""
    variables = {
        name: environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    }
    count = variables["LISTEN_FDS"]
    if variables["LISTEN_PID"] != str(os.getpid()) or not count.isdecimal():
        return []
    names = variables["LISTEN_FDNAMES"].split(":")
    descriptors = []
    for position in range(min(int(count[:4]), 1024)):
        number = _FIRST_PASSED + position
        os.set_inheritable(number, False)
        descriptors.append((names[position] if position < len(names) else "", number))
    return descriptors


def activated(descriptors: list[tuple[str, int]]) -> list[socket.socket]:
    """Return the descriptors that are listening stream sockets, as sockets."""
    sockets = []
    for _, number in descriptors:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            continue
        listener = socket.socket(fileno=number)
        if listener.type == socket.SOCK_STREAM and listener.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            sockets.append(listener)
        else:
            listener.detach()
    return sockets


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of the host (empty: all interfaces), all on one port.

    Addresses of a family that this kernel lacks are left out, as long as there is another. Raises
    UsageError or PermissionDenied.
    """
    where = f"{host}:{port}"
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        missing: list[OSError] = []
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                if sockets and port == 0:  # the port the kernel chose for the first address
                    address = (address[0], sockets[0].getsockname()[1], *address[2:])
                try:
                    listener = _listen(socket.socket(family, kind, protocol), address)
                except OSError as error:
                    if error.errno not in _NO_SUCH_FAMILY:
                        raise
                    missing.append(error)
                    continue
                sockets.append(stack.enter_context(listener))
            if not sockets and missing:
                raise missing[0]
        except PermissionError as error:
            raise PermissionDenied(f"cannot listen on {where}: {error.strerror}") from error
        except OSError as error:
            busy = "is another slabmon running? " if error.errno == errno.EADDRINUSE else ""
            raise UsageError(
                f"cannot listen on {where}: {error.strerror}; "
                f"{busy}choose another --web.listen-address"
            ) from error
        stack.pop_all()  # they stay open
    return sockets


def urls(listeners: Sequence[socket.socket], scheme: str) -> list[str]:
    """Return where a browser on this host reaches TCP sockets: one URL for each, the loopback's if
    it listens on all interfaces. That is the one of IPv4 if that does: of IPv6, which can be
    switched off, a socket for all interfaces can be had nevertheless."""
    names = [sock.getsockname()[:2] for sock in listeners if sock.family != socket.AF_UNIX]
    hosts = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1" if "0.0.0.0" in dict(names) else "::1"}
    names = [(hosts.get(host, host), port) for host, port in names]
    return list(
        dict.fromkeys(
            f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host, port in names
        )
    )


def _listen(listener: socket.socket, address: object) -> socket.socket:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(address)  # type: ignore[arg-type]
    except OSError:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    return listener


class _UnixListener(socket.socket):
    """Removes its file when it is closed."""

    def close(self) -> None:
        """Remove the file, close the socket."""
        with contextlib.suppress(OSError):
            os.unlink(self.getsockname())
        super().close()


def bind_unix(path: Path) -> socket.socket:
    """Return a socket for root and, where that group exists, members of GROUP. The file of a socket
    that nobody listens on is replaced. Raises UsageError if another process listens there."""
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        if path.is_socket():
            _remove_stale(path)
        old_mask = os.umask(0o177)
        try:
            listener = _listen(_UnixListener(socket.AF_UNIX), str(path))
        finally:
            os.umask(old_mask)
        with contextlib.suppress(KeyError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
            os.chmod(path, 0o660)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {path}: {error.strerror or error}; "
            "choose another --web.socket-path, or none with an empty one"
        ) from error
    return listener


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return
    raise OSError(errno.EADDRINUSE, "another slabmon listens there")


def bind_default_unix() -> socket.socket | None:
    """Return the socket at DEFAULT_SOCKET; if it cannot be made, log that and return None."""
    try:
        return bind_unix(Path(DEFAULT_SOCKET))
    except SlabmonError as error:
        log.warning("no socket for local clients: %s", error)
        return None
