# SPDX-License-Identifier: Apache-2.0
"""Reading BPF maps: through mmap, else by system calls (include/uapi/linux/bpf.h)."""

from __future__ import annotations

import contextlib
import mmap
import struct

import numpy as np

from slabmon.kernel.bpf.syscall import bpf

_MAP_LOOKUP_ELEM, _MAP_DELETE_ELEM, _MAP_LOOKUP_BATCH = 1, 3, 24


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def lookup(map_fd: int, key: np.ndarray, value: np.ndarray) -> bool:
    """Reads one element into `value`; False when there is none."""
    try:
        bpf(
            _MAP_LOOKUP_ELEM,
            bytearray(struct.pack("<IIQQQ", map_fd, 0, _address(key), _address(value), 0)),
        )
    except FileNotFoundError:
        return False
    return True


def delete(map_fd: int, key: np.ndarray) -> None:
    """Deletes one element, which need not be there."""
    with contextlib.suppress(FileNotFoundError):
        bpf(_MAP_DELETE_ELEM, bytearray(struct.pack("<IIQQQ", map_fd, 0, _address(key), 0, 0)))


def read_hash(map_fd: int, keys: np.ndarray, values: np.ndarray) -> int:
    """Reads a hash map into two arrays as long as it has entries; returns how many it holds.

    Batches of BPF_MAP_LOOKUP_BATCH (5.6+). Elements that come or go meanwhile may or may not be
    included; none is returned twice.
    """
    capacity = len(keys)
    cursor = np.zeros(1, "<u8")
    done = 0
    first = True
    chunk = 4096
    while True:
        chunk = min(chunk, capacity - done)
        if chunk == 0:
            break
        attributes = bytearray(
            struct.pack(
                "<QQQQIIQQ",
                0 if first else _address(cursor),
                _address(cursor),
                _address(keys) + done * keys.itemsize,
                _address(values) + done * values.itemsize,
                chunk,
                map_fd,
                0,
                0,
            )
        )
        try:
            bpf(_MAP_LOOKUP_BATCH, attributes)
        except FileNotFoundError:  # the last batch
            done += struct.unpack_from("<I", attributes, 32)[0]
            break
        except OSError as error:
            if error.errno != 28:  # ENOSPC: one bucket holds more than the batch
                raise
            if chunk == capacity - done:
                break
            chunk *= 2
            continue
        done += struct.unpack_from("<I", attributes, 32)[0]
        first = False
    return done


def map_array(map_fd: int, dtype: np.dtype, count: int, writable: bool = False) -> np.ndarray:
    """A mmap-able array map as a numpy array of `count` records; reading it is no system call."""
    length = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return np.frombuffer(mmap.mmap(map_fd, length, mmap.MAP_SHARED, protection), dtype, count)
