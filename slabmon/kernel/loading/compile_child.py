# SPDX-License-Identifier: Apache-2.0
"""The compile child: the only module that imports bcc.

Run as a process of its own with the number of a unix socket as argument. It takes one request
(a source in bpf/, defines, functions to load, kernel functions they call), compiles it, loads the
programs, hands the descriptors of maps and programs back and exits, and LLVM's memory with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from slabmon.kernel.bpf import syscall
from slabmon.kernel.bpf.sources import BPF_DIR
from slabmon.runtime.tuning import offer_to_oom_killer

# Where Debian keeps python3-bpfcc; an interpreter of a virtual environment does not look there.
_DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"
# No debug information, and no optimisation by clang itself: bcc optimises the result (O3) once
# more anyway. Together they save half of the compile time.
_CFLAGS = ("-Wno-everything", "-g0", "-Xclang", "-disable-llvm-passes")
_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, _NOBODY = 28, 1 << 2, 65534
_CALL, _PSEUDO_KFUNC_CALL = 0x85, 2
_LOAD_64, _PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE = 0x18, 1, 2
# Upper halves of the constants that stand for a map, and for the address of its first value;
# the number of the map is added.
_MAPS, _MAP_VALUES = 0x51AA0000, 0x51AB0000


def import_bcc() -> Any:
    """Return the bcc module, from the interpreter's path or from Debian's."""
    try:
        import bcc
    except ModuleNotFoundError:
        sys.path.append(_DEBIAN_PACKAGES)
        import bcc
    return bcc


def hide_root() -> None:
    """Take another effective user id and keep all capabilities.

    As user 0 bcc reads all of /proc/kallsyms at each compilation (bcc_procutils_each_ksym), for
    a look-up that slabmon's sources do not need: 0.2 s. Where this fails, it just takes longer.
    """
    libc = ctypes.CDLL(None)
    if libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0:
        with contextlib.suppress(OSError):
            os.seteuid(_NOBODY)


def patch_kfunc_calls(code: bytes, kfuncs: Iterable[int]) -> bytes:
    """Turn `call <BTF id>` into a kernel function call: src_reg becomes BPF_PSEUDO_KFUNC_CALL.

    struct bpf_insn (include/uapi/linux/bpf.h): opcode u8, dst:4 src:4, off s16, imm s32.
    """
    ids = set(kfuncs)
    patched = bytearray(code)
    for position in range(0, len(code), 8):
        opcode, registers, _, immediate = struct.unpack_from("<BBhi", code, position)
        if opcode == _CALL and registers >> 4 == 0 and immediate in ids:
            patched[position + 1] = registers & 15 | _PSEUDO_KFUNC_CALL << 4
    return bytes(patched)


def map_constants(names: Iterable[str]) -> dict[str, int]:
    """Return two macros for each map, with constants that patch_map_loads() replaces.

    NAME_map stands for the map, NAME_value for the address of its first value; the lower half of
    the latter is free for offsets.
    """
    constants = {}
    for i, name in enumerate(names):
        constants[f"{name}_map"] = (_MAPS + i) << 32
        constants[f"{name}_value"] = (_MAP_VALUES + i) << 32
    return constants


def patch_map_loads(code: bytes, map_fds: Sequence[int]) -> bytes:
    """Turn loads of map_constants() into loads of maps and of addresses in their values.

    src_reg becomes BPF_PSEUDO_MAP_FD, the lower half the descriptor; or BPF_PSEUDO_MAP_VALUE, the
    halves descriptor and offset (since d8eca5bbb2be "bpf: implement lookup-free direct value
    access for maps", 5.2).
    """
    patched = bytearray(code)
    for position in range(0, len(code) - 8, 8):
        opcode, registers, _, low = struct.unpack_from("<BBhi", code, position)
        (high,) = struct.unpack_from("<i", code, position + 12)
        if opcode != _LOAD_64 or registers >> 4:
            continue
        for first, kind, offset in (
            (_MAPS, _PSEUDO_MAP_FD, 0),
            (_MAP_VALUES, _PSEUDO_MAP_VALUE, low),
        ):
            if 0 <= high - first < len(map_fds):
                patched[position + 1] = registers & 15 | kind << 4
                struct.pack_into("<i", patched, position + 4, map_fds[high - first])
                struct.pack_into("<i", patched, position + 12, offset)
    return bytes(patched)


def main() -> int:
    """Answer one request on the socket."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    offer_to_oom_killer()
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR)
    hide_root()
    bcc = import_bcc()
    request = json.loads(channel.makefile("rb").readline())
    source = str(BPF_DIR / request["source"])
    cflags = [*_CFLAGS, f"-I{BPF_DIR}"]
    for name, value in (request["defines"] | map_constants(request["maps"])).items():
        cflags.append(f"-D{name}={value}ULL" if value > 0x7FFFFFFF else f"-D{name}={value}")
    try:
        module = bcc.BPF(src_file=source, cflags=cflags)
    except Exception as error:
        return reply(channel, {"error": f"compile: {error}"}, [])
    descriptors: list[int] = []
    maps, programs, sizes, refused = {}, {}, {}, {}
    for name in request["maps"]:
        fd = bcc.lib.bpf_table_fd(module.module, name.encode())
        if fd < 0:
            return reply(channel, {"error": f"compile: map {name} is missing"}, [])
        maps[name] = len(descriptors)
        descriptors.append(fd)
    for name, (kind, btf_id) in request["functions"].items():
        code = patch_kfunc_calls(module.dump_func(name.encode()), request["kfuncs"])
        code = patch_map_loads(code, descriptors[: len(maps)])
        try:
            fd = syscall.load(name, code, kind, btf_id)
        except OSError as error:
            if kind:  # programs on functions are an extra
                refused[name] = f"the kernel refuses its program: {error.strerror}"
                continue
            return reply(channel, {"error": f"load {name}: {error}"}, [])
        programs[name] = len(descriptors)
        sizes[name] = len(code) // 8
        descriptors.append(fd)
    message = {"maps": maps, "programs": programs, "instructions": sizes, "refused": refused}
    return reply(channel, message, descriptors)


def reply(channel: socket.socket, message: dict[str, object], descriptors: list[int]) -> int:
    """Send the answer with its descriptors, and end the process."""
    socket.send_fds(channel, [json.dumps(message).encode()], descriptors)
    # bcc and LLVM need not tidy up: the process is done.
    sys.stderr.flush()
    ctypes.CDLL(None)._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
