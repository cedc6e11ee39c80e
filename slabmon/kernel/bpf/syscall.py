# SPDX-License-Identifier: Apache-2.0
"""The bpf() system calls on programs (include/uapi/linux/bpf.h). No numpy here: the compile
child imports this module and has to start fast. Maps are read by maps.py."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import resource
import struct
from dataclasses import dataclass

_NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
_MAP_CREATE, _MAP_UPDATE_ELEM, _PROG_LOAD, _OBJ_PIN, _OBJ_GET = 0, 2, 5, 6, 7
_PROG_TEST_RUN, _OBJ_GET_INFO, _RAW_TRACEPOINT_OPEN, _ENABLE_STATS = 10, 15, 17, 32
_PROG_TYPE_RAW_TRACEPOINT, _PROG_TYPE_TRACING = 17, 26
_MAP_TYPE_ARRAY, _F_MMAPABLE = 2, 1 << 10
_F_TEST_RUN_ON_CPU = 1 << 0  # 5.10+
ATTACH_TYPES = {"fentry": 24, "fexit": 25}
_LOG_BYTES = 1 << 16
_INFO_BYTES = 256  # more than any struct bpf_prog_info so far

_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def _chars(length: int) -> type[ctypes.Array[ctypes.c_char]]:
    """Return the type of a buffer. Each new one is cyclic garbage once it is not used any more."""
    return ctypes.c_char * length


def bpf(command: int, attributes: bytearray) -> int:
    """bpf(2); OSError when it fails. The kernel may write to `attributes`."""
    buffer = _chars(len(attributes)).from_buffer(attributes)
    result = int(_libc.syscall(_NUMBER, command, buffer, len(attributes)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def create_array(name: str, value_bytes: int, entries: int) -> int:
    """A mmap-able array map of u32 keys."""
    fields = (_MAP_TYPE_ARRAY, 4, value_bytes, entries, _F_MMAPABLE, 0, 0, name.encode()[:15])
    attributes = struct.pack("<IIIIIII16s", *fields)
    try:
        return bpf(_MAP_CREATE, bytearray(attributes))
    except PermissionError:  # before 5.11 maps are charged as locked memory (kernel/bpf/syscall.c)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        return bpf(_MAP_CREATE, bytearray(attributes))


def pin(descriptor: int, path: str) -> None:
    """Gives a map, program or link a name in a bpffs; raw tracepoint links from 5.7 on."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(_OBJ_PIN, bytearray(struct.pack("<QII", ctypes.addressof(name), descriptor, 0)))


def open_pinned(path: str) -> int:
    """A descriptor of what is pinned there."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(_OBJ_GET, bytearray(struct.pack("<QII", ctypes.addressof(name), 0, 0)))


def load(name: str, code: bytes, kind: str = "", btf_id: int = 0) -> int:
    """BPF_PROG_LOAD of a raw tracepoint program, or of one of `kind` fentry or fexit for the
    kernel function `btf_id`; OSError carries the verifier's last lines."""
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    program_type = _PROG_TYPE_TRACING if kind else _PROG_TYPE_RAW_TRACEPOINT

    def attributes(level: int) -> bytearray:
        return bytearray(
            struct.pack(
                "<IIQQIIQII16sIIIIQIIQII",
                program_type,
                len(code) // 8,
                ctypes.addressof(instructions),
                ctypes.addressof(license_),
                level,
                _LOG_BYTES if level else 0,
                ctypes.addressof(log) if level else 0,
                0,
                0,
                name.encode()[:15],
                0,
                ATTACH_TYPES.get(kind, 0),
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                btf_id,
            )
        )

    try:
        return bpf(_PROG_LOAD, attributes(0))
    except OSError as error:
        try:
            return bpf(_PROG_LOAD, attributes(1))
        except OSError:
            lines = log.value.decode("utf-8", "replace").strip().splitlines()
            detail = f"; verifier: {' | '.join(lines[-8:])}" if lines else ""
            raise OSError(error.errno, f"{error.strerror}{detail}") from None


def attach(program: int, tracepoint: str = "") -> int:
    """Attaches a program to a raw tracepoint, or to the function it was loaded for, until the
    returned descriptor is closed."""
    text = ctypes.create_string_buffer(tracepoint.encode())
    address = ctypes.addressof(text) if tracepoint else 0
    return bpf(_RAW_TRACEPOINT_OPEN, bytearray(struct.pack("<QII", address, program, 0)))


def set_tail_call(program_array: int, program: int) -> None:
    """Puts a program at place 0 of a program array, for tail calls; gone with the array."""
    key, value = ctypes.c_uint32(0), ctypes.c_uint32(program)
    fields = (program_array, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    bpf(_MAP_UPDATE_ELEM, bytearray(struct.pack("<IIQQQ", *fields)))


def refuses_fentry(btf_id: int) -> str:
    """Why programs cannot be attached to this kernel function; "" when they can. Tried with one
    that does nothing, for an instant."""
    nothing = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    try:
        program = load("slabmon_probe", nothing, "fentry", btf_id)
        try:
            os.close(attach(program))
        finally:
            os.close(program)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def run(program: int, *arguments: int, cpu: int | None = None) -> int:
    """BPF_PROG_TEST_RUN of a raw tracepoint program, on one CPU if given; arguments become
    ctx->args. Return what the program returned."""
    context = (ctypes.c_uint64 * 12)(*arguments)
    size, address = ctypes.sizeof(context), ctypes.addressof(context)
    place = (0, 0) if cpu is None else (_F_TEST_RUN_ON_CPU, cpu)
    fields = (program, 0, 0, 0, 0, 0, 0, 0, size, 0, address, 0, *place, 0, 0)
    attributes = bytearray(struct.pack("<IIIIQQIIIIQQIIII", *fields))
    bpf(_PROG_TEST_RUN, attributes)
    return int(struct.unpack_from("<I", attributes, 4)[0])


@dataclass(frozen=True)
class ProgramInfo:
    """Of one loaded program. run_seconds and runs only grow while statistics are enabled;
    verified_instructions is how many the verifier walked through (0 before 5.16)."""

    run_seconds: float
    runs: int
    recursion_misses: int
    verified_instructions: int


def program_info(program: int) -> ProgramInfo:
    """struct bpf_prog_info: run_time_ns at 192, run_cnt at 200, recursion_misses at 208 (5.12+),
    verified_insns at 216."""
    info = _chars(_INFO_BYTES)()
    bpf(_OBJ_GET_INFO, bytearray(struct.pack("<IIQ", program, _INFO_BYTES, ctypes.addressof(info))))
    run_ns, runs, misses, verified = struct.unpack_from("<QQQI", info.raw, 192)
    return ProgramInfo(run_ns / 1e9, runs, misses, verified)


def enable_stats() -> int:
    """Switches program run statistics on until the returned descriptor is closed (5.8+)."""
    return bpf(_ENABLE_STATS, bytearray(struct.pack("<I", 0)))
