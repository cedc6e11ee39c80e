"""The bpf() system calls on programs (include/uapi/linux/bpf.h). No numpy here: the compile
child imports this module and has to start fast. Maps are read by maps.py."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass

_NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
_PROG_LOAD, _PROG_TEST_RUN, _OBJ_GET_INFO = 5, 10, 15
_RAW_TRACEPOINT_OPEN, _ENABLE_STATS = 17, 32
_PROG_TYPE_RAW_TRACEPOINT = 17
_LOG_BYTES = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytearray) -> int:
    """bpf(2); OSError when it fails. The kernel may write to `attributes`."""
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    result = int(_libc.syscall(_NUMBER, command, buffer, len(attributes)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


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
        return bpf(_PROG_LOAD, attributes(0))
    except OSError as error:
        try:
            return bpf(_PROG_LOAD, attributes(1))
        except OSError:
            lines = log.value.decode("utf-8", "replace").strip().splitlines()
            raise OSError(
                error.errno, f"{error.strerror}; verifier: {' | '.join(lines[-8:])}"
            ) from None


def attach_raw_tracepoint(name: str, program: int) -> int:
    """Attaches a program until the returned descriptor is closed."""
    text = ctypes.create_string_buffer(name.encode())
    return bpf(
        _RAW_TRACEPOINT_OPEN, bytearray(struct.pack("<QII", ctypes.addressof(text), program, 0))
    )


def run(program: int, *arguments: int) -> None:
    """BPF_PROG_TEST_RUN of a raw tracepoint program; arguments become ctx->args."""
    context = (ctypes.c_uint64 * 12)(*arguments)
    size, address = ctypes.sizeof(context), ctypes.addressof(context)
    fields = (program, 0, 0, 0, 0, 0, 0, 0, size, 0, address, 0, 0, 0)
    bpf(_PROG_TEST_RUN, bytearray(struct.pack("<IIIIQQIIIIQQII", *fields)))


@dataclass(frozen=True)
class ProgramInfo:
    """Of one loaded program. run_seconds and runs only grow while statistics are enabled."""

    run_seconds: float
    runs: int
    recursion_misses: int


def program_info(program: int) -> ProgramInfo:
    """struct bpf_prog_info: run_time_ns at 192, run_cnt at 200, recursion_misses at 208 (5.12+)."""
    info = ctypes.create_string_buffer(256)
    bpf(_OBJ_GET_INFO, bytearray(struct.pack("<IIQ", program, 256, ctypes.addressof(info))))
    run_ns, runs, misses = struct.unpack_from("<QQQ", info.raw, 192)
    return ProgramInfo(run_ns / 1e9, runs, misses)


def enable_stats() -> int:
    """Switches program run statistics on until the returned descriptor is closed (5.8+)."""
    return bpf(_ENABLE_STATS, bytearray(struct.pack("<I", 0)))
