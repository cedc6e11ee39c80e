# SPDX-License-Identifier: Apache-2.0
"""What is safe to unmap."""

from __future__ import annotations

import subprocess
import sys

from slabmon.runtime.malloc import untouched

_FIELDS = "Size: 4 kB\nRss: 4 kB\nAnonymous: {} kB\nVmFlags: rd mr\n"


def smaps(*mappings: tuple[str, int]) -> bytes:
    return "".join(head + "\n" + _FIELDS.format(dirty) for head, dirty in mappings).encode()


def test_only_private_readable_files_never_written_to_are_untouched() -> None:
    code, constants, relocated, heap, shared, data = (
        "00400000-00402000 r-xp 00000000 08:01 42 /usr/bin/python3",
        "00500000-00501000 r--p 00002000 08:01 42 /usr/bin/python3",
        "00600000-00601000 r--p 00003000 08:01 42 /usr/bin/python3",
        "00700000-00701000 r--p 00000000 00:00 0 [heap]",
        "00800000-00801000 r--s 00000000 00:10 1038 anon_inode:bpf-map",
        "00900000-00901000 rw-p 00004000 08:01 42 /usr/bin/a file: with blanks",
    )
    found = untouched(
        smaps((code, 0), (constants, 0), (relocated, 4), (heap, 0), (shared, 0), (data, 0))
    )
    assert list(found) == [(0x400000, 0x2000), (0x500000, 0x1000)]


def test_everything_works_after_all_is_let_go_of() -> None:
    program = (
        "import hashlib, json, numpy as np, zlib\n"
        "from slabmon.runtime import malloc as memory\n"
        "def work(): return (int(np.unique(np.arange(9) % 4).sum()), json.dumps([1.5]),\n"
        "    hashlib.sha256(b'x').hexdigest(), zlib.crc32(b'x'))\n"
        "before = work()\n"
        "for _ in range(3): memory.give_back(); memory.let_go_of_files()\n"
        "assert work() == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
