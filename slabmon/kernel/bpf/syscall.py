# SPDX-License-Identifier: Apache-2.0
"""bpf(2) on programs, links and pinned objects, by the names of include/uapi/linux/bpf.h.

Imports no numpy: the compile child imports this module and has to start fast. Maps are read by
slabmon.kernel.bpf.maps.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
from dataclasses import dataclass

_SYSCALL_NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)

# enum bpf_cmd
BPF_MAP_CREATE = 0
BPF_MAP_LOOKUP_ELEM = 1
BPF_MAP_UPDATE_ELEM = 2
BPF_MAP_DELETE_ELEM = 3
BPF_PROG_LOAD = 5
BPF_OBJ_PIN = 6
BPF_OBJ_GET = 7
BPF_PROG_TEST_RUN = 10
BPF_OBJ_GET_INFO_BY_FD = 15
BPF_RAW_TRACEPOINT_OPEN = 17
BPF_MAP_LOOKUP_BATCH = 24
BPF_ENABLE_STATS = 32

_BPF_PROG_TYPE_RAW_TRACEPOINT = 17
_BPF_PROG_TYPE_TRACING = 26
_BPF_MAP_TYPE_ARRAY = 2
_BPF_F_MMAPABLE = 1 << 10
_BPF_F_TEST_RUN_ON_CPU = 1 << 0
_BPF_STATS_RUN_TIME = 0
_BPF_OBJ_NAME_LEN = 16  # with the 0 at its end
_ATTACH_TYPES = {"fentry": 24, "fexit": 25}  # BPF_TRACE_FENTRY, BPF_TRACE_FEXIT
_LOG_BYTES = 1 << 16

_u32, _u64, _name = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char * _BPF_OBJ_NAME_LEN

_libc = ctypes.CDLL(None, use_errno=True)

# Types are made once: each is cyclic garbage when it is dropped.
_Context = ctypes.c_uint64 * 12  # MAX_BPF_FUNC_ARGS (include/linux/bpf.h)


# The members of union bpf_attr, up to the last field that is used; pointers are u64.


class _MapCreate(ctypes.Structure):
    _fields_ = (
        ("map_type", _u32),
        ("key_size", _u32),
        ("value_size", _u32),
        ("max_entries", _u32),
        ("map_flags", _u32),
        ("inner_map_fd", _u32),
        ("numa_node", _u32),
        ("map_name", _name),
    )


class MapElement(ctypes.Structure):
    """Attributes of BPF_MAP_*_ELEM."""

    _fields_ = (("map_fd", _u32), ("key", _u64), ("value", _u64), ("flags", _u64))


class MapBatch(ctypes.Structure):
    """Attributes of BPF_MAP_*_BATCH; the kernel sets `count`."""

    _fields_ = (
        ("in_batch", _u64),
        ("out_batch", _u64),
        ("keys", _u64),
        ("values", _u64),
        ("count", _u32),
        ("map_fd", _u32),
        ("elem_flags", _u64),
        ("flags", _u64),
    )


class _ProgLoad(ctypes.Structure):
    _fields_ = (
        ("prog_type", _u32),
        ("insn_cnt", _u32),
        ("insns", _u64),
        ("license", _u64),
        ("log_level", _u32),
        ("log_size", _u32),
        ("log_buf", _u64),
        ("kern_version", _u32),
        ("prog_flags", _u32),
        ("prog_name", _name),
        ("prog_ifindex", _u32),
        ("expected_attach_type", _u32),
        ("prog_btf_fd", _u32),
        ("func_info_rec_size", _u32),
        ("func_info", _u64),
        ("func_info_cnt", _u32),
        ("line_info_rec_size", _u32),
        ("line_info", _u64),
        ("line_info_cnt", _u32),
        ("attach_btf_id", _u32),
    )


class _ObjPin(ctypes.Structure):
    _fields_ = (("pathname", _u64), ("bpf_fd", _u32), ("file_flags", _u32))


class _TestRun(ctypes.Structure):
    _fields_ = (
        ("prog_fd", _u32),
        ("retval", _u32),
        ("data_size_in", _u32),
        ("data_size_out", _u32),
        ("data_in", _u64),
        ("data_out", _u64),
        ("repeat", _u32),
        ("duration", _u32),
        ("ctx_size_in", _u32),
        ("ctx_size_out", _u32),
        ("ctx_in", _u64),
        ("ctx_out", _u64),
        ("flags", _u32),
        ("cpu", _u32),
    )


class _GetInfo(ctypes.Structure):
    _fields_ = (("bpf_fd", _u32), ("info_len", _u32), ("info", _u64))


class _RawTracepointOpen(ctypes.Structure):
    _fields_ = (("name", _u64), ("prog_fd", _u32))


class _EnableStats(ctypes.Structure):
    _fields_ = (("type", _u32),)


class _ProgInfo(ctypes.Structure):
    """struct bpf_prog_info. Older kernels fill in less: recursion_misses since 5.12,
    verified_insns since 5.16."""

    _fields_ = (
        ("type", _u32),
        ("id", _u32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", _u32),
        ("xlated_prog_len", _u32),
        ("jited_prog_insns", _u64),
        ("xlated_prog_insns", _u64),
        ("load_time", _u64),
        ("created_by_uid", _u32),
        ("nr_map_ids", _u32),
        ("map_ids", _u64),
        ("name", _name),
        ("ifindex", _u32),
        ("gpl_compatible", _u32),
        ("netns_dev", _u64),
        ("netns_ino", _u64),
        ("nr_jited_ksyms", _u32),
        ("nr_jited_func_lens", _u32),
        ("jited_ksyms", _u64),
        ("jited_func_lens", _u64),
        ("btf_id", _u32),
        ("func_info_rec_size", _u32),
        ("func_info", _u64),
        ("nr_func_info", _u32),
        ("nr_line_info", _u32),
        ("line_info", _u64),
        ("jited_line_info", _u64),
        ("nr_jited_line_info", _u32),
        ("line_info_rec_size", _u32),
        ("jited_line_info_rec_size", _u32),
        ("nr_prog_tags", _u32),
        ("prog_tags", _u64),
        ("run_time_ns", _u64),
        ("run_cnt", _u64),
        ("recursion_misses", _u64),
        ("verified_insns", _u32),
    )


def bpf(command: int, attributes: ctypes.Structure) -> int:
    """Call bpf(2) and return its result. The kernel may write to `attributes`.

    Raises OSError if it fails.
    """
    size = ctypes.sizeof(attributes)
    result = int(_libc.syscall(_SYSCALL_NUMBER, command, ctypes.byref(attributes), size))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _object_name(name: str) -> bytes:
    return name.encode()[: _BPF_OBJ_NAME_LEN - 1]


def _charged(command: int, attributes: ctypes.Structure) -> int:
    """Create a map or program. Before 5.11 they are charged as locked memory of the user
    (kernel/bpf/syscall.c): then without a limit."""
    try:
        return bpf(command, attributes)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        return bpf(command, attributes)


def create_array(name: str, value_bytes: int, entries: int) -> int:
    """Create a mmap-able array map of u32 keys and return its descriptor."""
    attributes = _MapCreate(
        map_type=_BPF_MAP_TYPE_ARRAY,
        key_size=4,
        value_size=value_bytes,
        max_entries=entries,
        map_flags=_BPF_F_MMAPABLE,
        map_name=_object_name(name),
    )
    return _charged(BPF_MAP_CREATE, attributes)


def pin(descriptor: int, path: str) -> None:
    """Pin a map, program or link at a path of a bpffs; raw tracepoint links since 5.7."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(BPF_OBJ_PIN, _ObjPin(pathname=ctypes.addressof(name), bpf_fd=descriptor))


def open_pinned(path: str) -> int:
    """Return a descriptor of the object pinned at a path."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(BPF_OBJ_GET, _ObjPin(pathname=ctypes.addressof(name)))


def load(name: str, code: bytes, kind: str = "", btf_id: int = 0) -> int:
    """Load a program and return its descriptor.

    It is a raw tracepoint program, or with `kind` "fentry" or "fexit" one for the kernel function
    `btf_id`. Raises OSError with the last lines of the verifier's log.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    attributes = _ProgLoad(
        prog_type=_BPF_PROG_TYPE_TRACING if kind else _BPF_PROG_TYPE_RAW_TRACEPOINT,
        insn_cnt=len(code) // 8,
        insns=ctypes.addressof(instructions),
        license=ctypes.addressof(licence),
        prog_name=_object_name(name),
        expected_attach_type=_ATTACH_TYPES.get(kind, 0),
        attach_btf_id=btf_id,
    )
    try:
        return _charged(BPF_PROG_LOAD, attributes)
    except OSError as error:
        attributes.log_level = 1
        attributes.log_size = _LOG_BYTES
        attributes.log_buf = ctypes.addressof(log)
        try:
            return bpf(BPF_PROG_LOAD, attributes)
        except OSError:
            lines = log.value.decode("utf-8", "replace").strip().splitlines()
            detail = f"; verifier: {' | '.join(lines[-8:])}" if lines else ""
            raise OSError(error.errno, f"{error.strerror}{detail}") from None


def attach(program: int, tracepoint: str = "") -> int:
    """Attach a program to a raw tracepoint, or to the function it was loaded for.

    It stays attached until the returned descriptor is closed.
    """
    name = ctypes.create_string_buffer(tracepoint.encode())
    address = ctypes.addressof(name) if tracepoint else 0
    return bpf(BPF_RAW_TRACEPOINT_OPEN, _RawTracepointOpen(name=address, prog_fd=program))


def set_tail_call(program_array: int, program: int) -> None:
    """Store a program at index 0 of a program array, for tail calls; gone with the array."""
    key, value = ctypes.c_uint32(0), ctypes.c_uint32(program)
    attributes = MapElement(
        map_fd=program_array, key=ctypes.addressof(key), value=ctypes.addressof(value)
    )
    bpf(BPF_MAP_UPDATE_ELEM, attributes)


def refuses_fentry(btf_id: int) -> str:
    """Return why programs cannot be attached to this kernel function; "" if they can.

    An empty program is attached for an instant.
    """
    # r0 = 0; exit
    empty = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    try:
        program = load("slabmon_probe", empty, "fentry", btf_id)
        try:
            os.close(attach(program))
        finally:
            os.close(program)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def run(program: int, *arguments: int, cpu: int | None = None) -> int:
    """Run a raw tracepoint program once (BPF_PROG_TEST_RUN), on one CPU if given.

    Arguments become ctx->args. Returns what the program returned.
    """
    context = _Context(*arguments)
    attributes = _TestRun(
        prog_fd=program,
        ctx_size_in=ctypes.sizeof(context),
        ctx_in=ctypes.addressof(context),
        flags=0 if cpu is None else _BPF_F_TEST_RUN_ON_CPU,
        cpu=cpu or 0,
    )
    bpf(BPF_PROG_TEST_RUN, attributes)
    return int(attributes.retval)


@dataclass(frozen=True)
class ProgramInfo:
    """Statistics of one loaded program.

    run_seconds and runs grow only while statistics are enabled. verified_instructions is the
    number of instructions the verifier processed (0 before 5.16).
    """

    run_seconds: float
    runs: int
    recursion_misses: int
    verified_instructions: int


def program_info(program: int) -> ProgramInfo:
    """Return the statistics of a program."""
    info = _ProgInfo()
    attributes = _GetInfo(bpf_fd=program, info_len=ctypes.sizeof(info), info=ctypes.addressof(info))
    bpf(BPF_OBJ_GET_INFO_BY_FD, attributes)
    return ProgramInfo(
        info.run_time_ns / 1e9, info.run_cnt, info.recursion_misses, info.verified_insns
    )


def enable_stats() -> int:
    """Enable run statistics of programs until the returned descriptor is closed (5.8+)."""
    return bpf(BPF_ENABLE_STATS, _EnableStats(type=_BPF_STATS_RUN_TIME))
