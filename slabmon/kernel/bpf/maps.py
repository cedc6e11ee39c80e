# SPDX-License-Identifier: Apache-2.0
"""Read BPF maps: through mmap, else by system calls (include/uapi/linux/bpf.h)."""

from __future__ import annotations

import contextlib
import errno
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slabmon.kernel.bpf import syscall

_FIRST_BATCH = 4096  # entries


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def lookup(map_fd: int, key: NDArray[Any], value: NDArray[Any]) -> bool:
    """Read one element into `value`; return False if there is none."""
    attributes = syscall.MapElement(map_fd=map_fd, key=_address(key), value=_address(value))
    try:
        syscall.bpf(syscall.BPF_MAP_LOOKUP_ELEM, attributes)
    except FileNotFoundError:
        return False
    return True


def delete(map_fd: int, key: NDArray[Any]) -> None:
    """Delete one element, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        syscall.bpf(
            syscall.BPF_MAP_DELETE_ELEM, syscall.MapElement(map_fd=map_fd, key=_address(key))
        )


def update(map_fd: int, key: NDArray[Any], value: NDArray[Any]) -> None:
    """Write one element, in the place of another of its key."""
    attributes = syscall.MapElement(map_fd=map_fd, key=_address(key), value=_address(value))
    syscall.bpf(syscall.BPF_MAP_UPDATE_ELEM, attributes)


def push(map_fd: int, value: NDArray[Any]) -> None:
    """Add one element to a BPF stack."""
    attributes = syscall.MapElement(map_fd=map_fd, value=_address(value))
    syscall.bpf(syscall.BPF_MAP_UPDATE_ELEM, attributes)


def read_hash(map_fd: int, keys: NDArray[Any], values: NDArray[Any]) -> int:
    """Read a hash map into two arrays of its capacity; return the number of its entries.

    Batches of BPF_MAP_LOOKUP_BATCH (5.6+). Elements inserted or deleted meanwhile may or may not
    be included; none is returned twice.
    """
    cursor = np.zeros(1, "<u8")
    count, batch = 0, _FIRST_BATCH
    started = False
    while batch := min(batch, len(keys) - count):
        attributes = syscall.MapBatch(
            in_batch=_address(cursor) if started else 0,
            out_batch=_address(cursor),
            keys=_address(keys) + count * keys.itemsize,
            values=_address(values) + count * values.itemsize,
            count=batch,
            map_fd=map_fd,
        )
        try:
            syscall.bpf(syscall.BPF_MAP_LOOKUP_BATCH, attributes)
        except FileNotFoundError:  # the last batch
            return count + int(attributes.count)
        except OSError as error:
            if error.errno != errno.ENOSPC:  # a bucket holds more entries than the batch
                raise
            if batch == len(keys) - count:
                break
            batch *= 2
            continue
        count += int(attributes.count)
        started = True
    return count


def map_array(
    map_fd: int, dtype: np.dtype, count: int, writable: bool = False
) -> NDArray[Any]:  # (count,)
    """Map a mmap-able array map as `count` records; reading them takes no system call."""
    length = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return np.frombuffer(mmap.mmap(map_fd, length, mmap.MAP_SHARED, protection), dtype, count)
