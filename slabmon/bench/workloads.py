# SPDX-License-Identifier: Apache-2.0
"""Loops that make the kernel allocate and free a known number of objects."""

from __future__ import annotations

import ctypes
import os
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from itertools import repeat
from typing import ClassVar

from slabmon.base.errors import UnsupportedHost

_PRIVATE, _CREATE, _REMOVE = 0, 0o1000, 0  # sys/ipc.h


class Workload(ABC):
    """One kind of loop. `about` describes an iteration."""

    name: ClassVar[str]
    about: ClassVar[str]

    @abstractmethod
    def run(self, iterations: int) -> None:
        """Run the loop, with as little as possible around the system calls."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Release its resources."""


class MessageQueue(Workload):
    """One kmalloc and kfree pair per iteration, and nothing else: the message (ipc/msgutil.c)."""

    name = "message queue"
    about = "msgsnd() and msgrcv() of 16 bytes"

    def __init__(self) -> None:
        # PyDLL keeps the interpreter's lock: releasing and taking it costs as much as a system
        # call.
        libc = ctypes.PyDLL(None)
        self._send, self._receive, self._control = libc.msgsnd, libc.msgrcv, libc.msgctl
        self._queue = ctypes.c_int(libc.msgget(_PRIVATE, _CREATE | 0o600))
        if self._queue.value < 0:
            raise UnsupportedHost(
                "no System V message queues: bench needs a kernel with CONFIG_SYSVIPC"
            )
        self._buffer = (ctypes.c_long * 3)(1, 0, 0)

    def run(self, iterations: int) -> None:
        """Run the loop."""
        send, receive, queue = self._send, self._receive, self._queue
        message = ctypes.c_void_p(ctypes.addressof(self._buffer))
        size, any_type, flags = ctypes.c_size_t(16), ctypes.c_long(0), ctypes.c_int(0)
        for _ in repeat(None, iterations):
            send(queue, message, size, flags)
            receive(queue, message, size, any_type, flags)

    def close(self) -> None:
        """Release its resources."""
        self._control(self._queue, _REMOVE, None)


class Pipe(Workload):
    """The inode, dentry, files and ring of a pipe."""

    name = "pipe"
    about = "pipe() and close() of both ends"

    def run(self, iterations: int) -> None:
        """Run the loop."""
        pipe, close = os.pipe, os.close
        for _ in repeat(None, iterations):
            reader, writer = pipe()
            close(reader)
            close(writer)


class FileOpen(Workload):
    """A path name and a struct file: kmem_cache pairs."""

    name = "file open"
    about = "open() and close() of /dev/null"

    def run(self, iterations: int) -> None:
        """Run the loop."""
        open_, close, flags = os.open, os.close, os.O_RDONLY | os.O_CLOEXEC
        for _ in repeat(None, iterations):
            close(open_("/dev/null", flags))


class Socket(Workload):
    """A datagram: its sk_buff and its data."""

    name = "socket"
    about = "a datagram of 1,024 bytes through a pair of unix sockets"

    def __init__(self) -> None:
        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def run(self, iterations: int) -> None:
        """Run the loop."""
        send, receive = self._ends[0].send, self._ends[1].recv_into
        data, buffer = bytes(1024), bytearray(1024)
        for _ in repeat(None, iterations):
            send(data)
            receive(buffer)

    def close(self) -> None:
        """Release its resources."""
        for end in self._ends:
            with suppress(OSError):
                end.close()


class Mixed(Workload):
    """All of the others, one after the other."""

    name = "mixed"
    about = "one iteration of each of the others"

    def __init__(self) -> None:
        self._parts = [kind() for kind in WORKLOADS if kind is not Mixed]

    def run(self, iterations: int) -> None:
        """Run the loop."""
        for _ in repeat(None, iterations):
            for part in self._parts:
                part.run(1)

    def close(self) -> None:
        """Release its resources."""
        for part in self._parts:
            part.close()


WORKLOADS: tuple[type[Workload], ...] = (MessageQueue, FileOpen, Pipe, Socket, Mixed)
