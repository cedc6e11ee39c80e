# SPDX-License-Identifier: Apache-2.0
"""Workloads of known size: System V messages. Each message is one kmalloc of its length plus
struct msg_msg, made by load_msg() (ipc/msgutil.c) and freed when it is received."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_IPC_PRIVATE, _IPC_RMID, _IPC_NOWAIT, _CREATE = 0, 0, 0o4000, 0o1600
HEADER = 48  # sizeof(struct msg_msg) on 64-bit kernels


class _Message(ctypes.Structure):
    _fields_ = (("type", ctypes.c_long), ("text", ctypes.c_char * 4096))


class Messages:
    """Messages in private queues: a new queue whenever the last is full (kernel.msgmnb bytes)."""

    def __init__(self) -> None:
        self._message = _Message(type=1)
        self._limit = int(Path("/proc/sys/kernel/msgmnb").read_text())
        self._queues: list[int] = []
        self._held: list[tuple[int, int]] = []
        self._room = 0

    @staticmethod
    def _check(result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def fill(self, content: bytes) -> None:
        """Makes this the content of messages to come."""
        self._message.text = content

    def send(self, length: int) -> None:
        """Holds one more message. A send that finds its queue full allocates as well, so queues
        are never filled."""
        if self._room < length:
            self._queues.append(self._check(_libc.msgget(_IPC_PRIVATE, _CREATE)))
            self._room = self._limit
        queue = self._queues[-1]
        self._check(_libc.msgsnd(queue, ctypes.byref(self._message), length, _IPC_NOWAIT))
        self._room -= length
        self._held.append((queue, length))

    def receive(self) -> None:
        """Gives a message back; all held ones are of one length."""
        queue, length = self._held.pop()
        self._check(_libc.msgrcv(queue, ctypes.byref(self._message), 4096, 0, _IPC_NOWAIT))
        if queue == self._queues[-1]:
            self._room += length

    def churn(self, count: int, length: int) -> None:
        """Sends and receives, one after the other."""
        for _ in range(count):
            self.send(length)
            self.receive()

    def send_apart(self, count: int, length: int, prepare: Callable[[], None]) -> None:
        """Holds so many more messages, sent by a process that called `prepare` before."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                prepare()
                other = Messages()
                for _ in range(count):
                    other.send(length)
                os.write(writer, " ".join(map(str, other._queues)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            queues = [int(number) for number in pipe.read().split()]
        os.waitpid(child, 0)
        assert queues or not count
        self._queues[:0] = queues

    def close(self) -> None:
        for queue in self._queues:
            _libc.msgctl(queue, _IPC_RMID, None)


@contextmanager
def messages() -> Iterator[Messages]:
    """Removes the queues, and what they hold, at the end."""
    result = Messages()
    try:
        yield result
    finally:
        result.close()
