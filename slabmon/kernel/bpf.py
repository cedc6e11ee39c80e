"""The bpf() system calls that slabmon makes itself (include/uapi/linux/bpf.h)."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
from dataclasses import dataclass

import numpy as np

_NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
_MAP_LOOKUP_ELEM, _PROG_LOAD, _PROG_TEST_RUN = 1, 5, 10
_OBJ_GET_INFO, _RAW_TRACEPOINT_OPEN, _MAP_LOOKUP_BATCH, _ENABLE_STATS = 15, 17, 24, 32
_PROG_TYPE_RAW_TRACEPOINT = 17
_LOG_BYTES = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytearray) -> int:
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    result = int(_libc.syscall(_NUMBER, command, buffer, len(attributes)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def load_raw_tracepoint(name: str, code: bytes) -> int:
    """BPF_PROG_LOAD of a raw tracepoint program; OSError carries the verifier's last lines."""
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(_LOG_BYTES)

    def attributes(level: int) -> bytearray:
        return bytearray(
            struct.pack(
                "<IIQQIIQII16s", _PROG_TYPE_RAW_TRACEPOINT, len(code) // 8,
                ctypes.addressof(instructions), ctypes.addressof(license_), level,
                _LOG_BYTES if level else 0, ctypes.addressof(log) if level else 0, 0, 0,
                name.encode()[:15],
            )
        )  # fmt: skip

    try:
        return _bpf(_PROG_LOAD, attributes(0))
    except OSError as error:
        try:
            return _bpf(_PROG_LOAD, attributes(1))
        except OSError:
            lines = log.value.decode("utf-8", "replace").strip().splitlines()
            raise OSError(
                error.errno, f"{error.strerror}; verifier: {' | '.join(lines[-8:])}"
            ) from None


def attach_raw_tracepoint(name: str, program: int) -> int:
    """Attaches a program until the returned descriptor is closed."""
    text = ctypes.create_string_buffer(name.encode())
    return _bpf(
        _RAW_TRACEPOINT_OPEN, bytearray(struct.pack("<QII", ctypes.addressof(text), program, 0))
    )


def run(program: int, *arguments: int) -> None:
    """BPF_PROG_TEST_RUN of a raw tracepoint program; arguments become ctx->args."""
    context = np.zeros(12, "<u8")
    context[: len(arguments)] = arguments
    _bpf(
        _PROG_TEST_RUN,
        bytearray(struct.pack("<IIIIQQIIIIQQII", program, 0, 0, 0, 0, 0, 0, 0, context.nbytes, 0,
                              _address(context), 0, 0, 0)),
    )  # fmt: skip


@dataclass(frozen=True)
class ProgramInfo:
    """Of one loaded program. run_seconds and runs only grow while statistics are enabled."""

    run_seconds: float
    runs: int
    recursion_misses: int


def program_info(program: int) -> ProgramInfo:
    """struct bpf_prog_info: run_time_ns at 192, run_cnt at 200, recursion_misses at 208 (5.12+)."""
    info = np.zeros(256, np.uint8)
    _bpf(_OBJ_GET_INFO, bytearray(struct.pack("<IIQ", program, info.nbytes, _address(info))))
    run_ns, runs, misses = struct.unpack_from("<QQQ", info.tobytes(), 192)
    return ProgramInfo(run_ns / 1e9, runs, misses)


def enable_stats() -> int:
    """Switches program run statistics on until the returned descriptor is closed (5.8+)."""
    return _bpf(_ENABLE_STATS, bytearray(struct.pack("<I", 0)))


def lookup(map_fd: int, key: np.ndarray, value: np.ndarray) -> bool:
    """Reads one element into `value`; False when there is none."""
    try:
        _bpf(
            _MAP_LOOKUP_ELEM,
            bytearray(struct.pack("<IIQQQ", map_fd, 0, _address(key), _address(value), 0)),
        )
    except FileNotFoundError:
        return False
    return True


def read_hash(
    map_fd: int, key: np.dtype, value: np.dtype, capacity: int
) -> tuple[np.ndarray, np.ndarray]:
    """All keys and values of a hash map, in batches (BPF_MAP_LOOKUP_BATCH, 5.6+).

    Elements that come or go meanwhile may or may not be included; none is returned twice.
    """
    keys = np.zeros(capacity, key)
    values = np.zeros(capacity, value)
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
                "<QQQQIIQQ", 0 if first else _address(cursor), _address(cursor),
                _address(keys) + done * key.itemsize, _address(values) + done * value.itemsize,
                chunk, map_fd, 0, 0,
            )
        )  # fmt: skip
        try:
            _bpf(_MAP_LOOKUP_BATCH, attributes)
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
    return keys[:done], values[:done]


def map_array(map_fd: int, dtype: np.dtype, count: int, writable: bool = False) -> np.ndarray:
    """A mmap-able array map as a numpy array of `count` records; reading it is no system call."""
    length = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return np.frombuffer(mmap.mmap(map_fd, length, mmap.MAP_SHARED, protection), dtype, count)
