# SPDX-License-Identifier: Apache-2.0
"""bpf/layout.h as C sees it and as slabmon.kernel.bpf.layout parses it."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from slabmon.base.losses import LOSS_CLASSES
from slabmon.kernel import settings
from slabmon.kernel.bpf import header, layout
from slabmon.kernel.bpf.sources import BPF_DIR
from tests.support import gcc

PROGRAM = (
    gcc.INTEGERS
    + """
#include <stddef.h>
#include <stdio.h>
#include "layout.h"
int main(void) {
"""
)


def test_every_member_lies_where_the_compiler_puts_it(tmp_path: Path) -> None:
    lines = [PROGRAM]
    expected = []
    for name, dtype in layout.STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        expected.append(f"{name} {dtype.itemsize}")
        assert dtype.names is not None
        for member in dtype.names:
            lines.append(
                f'printf("{name}.{member} %zu %zu\\n", offsetof(struct {name}, {member}), '
                f"sizeof(((struct {name} *)0)->{member}));"
            )
            member_type, offset = dtype.fields[member][:2]  # type: ignore[index]
            expected.append(f"{name}.{member} {offset} {member_type.itemsize}")
    lines.append("return 0; }")
    program = gcc.build(tmp_path, "\n".join(lines))
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == expected


def test_every_struct_and_member_of_the_header_is_parsed() -> None:
    """The compiler cannot report a member that the parser overlooked; the text can."""
    text = (BPF_DIR / "layout.h").read_text()
    code = "".join(part.partition("*/")[2] or part for part in text.split("/*"))
    members = sum(len(dtype.names or ()) for dtype in layout.STRUCTS.values())
    statements = [line for line in code.splitlines() if ";" in line and "}" not in line]
    assert members == len(statements)
    assert len(layout.STRUCTS) == code.count("struct ")


def test_integers_are_signed_as_in_c() -> None:
    kinds = {
        "lane_head.countdown": "i8",
        "lane_head.depth": "u8",
        "sample.stack": "i4",
        "sample.tgid": "u4",
    }
    for path, code in kinds.items():
        struct, _, member = path.partition(".")
        assert layout.STRUCTS[struct][member].str == f"<{code}", path


@pytest.mark.parametrize(
    ("struct", "size"), [("alloc_slot", 64), ("free_slot", 64), ("lane_head", 256)]
)
def test_hot_records_fill_whole_cache_lines(struct: str, size: int) -> None:
    assert layout.STRUCTS[struct].itemsize == size


def test_a_lane_head_has_a_counter_for_each_loss_reason() -> None:
    assert layout.LANE_HEAD["lost"].shape == (layout.CONSTANTS["LOSS_COUNTERS"],)
    assert len(header.LOSSES) <= layout.CONSTANTS["LOSS_COUNTERS"]


def test_loss_reasons_have_the_indices_that_the_compiler_gives_them(tmp_path: Path) -> None:
    lines = [f'printf("%d\\n", LOST_{name.upper()});' for name in header.LOSSES]
    text = "\n".join([PROGRAM, *lines, 'printf("%d\\n", NR_LOSSES); return 0; }'])
    program = gcc.build(tmp_path, text)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert [int(line) for line in printed.split()] == list(range(len(header.LOSSES) + 1))
    assert dict(enumerate(header.LOSSES)) == layout.LOSS_REASONS


def test_each_loss_of_the_header_has_the_same_class_in_python() -> None:
    classes = {reason: LOSS_CLASSES.get(reason) for reason in header.LOSSES}
    assert classes == header.LOSSES


def test_settings_size_the_pool_by_the_constants_of_the_header() -> None:
    for name in ("POOL_STEP", "TAG_WAYS", "TAG_PROBES"):
        assert getattr(settings, name) == header.CONSTANTS[name]


def test_loss_reasons_have_distinct_lower_case_names() -> None:
    names = list(layout.LOSS_REASONS.values())
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.replace("_", "").isalpha() for name in names)
    assert {"site_slots_full", "samples_full", "nesting"} <= set(names)


def test_slot_keys_fit_the_generation_into_the_alignment_of_kmem_cache() -> None:
    mask = layout.CONSTANTS["CACHE_GENERATION_MASK"]
    assert mask == 63, "struct kmem_cache is 64-byte aligned"
    assert layout.CONSTANTS["CACHE_LARGE"] <= mask, "no cache address may equal CACHE_LARGE"
    generations = layout.CONSTANTS["CACHE_GENERATIONS"]
    assert generations & (generations - 1) == 0, "used as a mask by the programs"


def test_parse_places_members_by_their_own_size() -> None:
    text = header.strip_comments(
        "#define COUNT 3 /* things */\n"
        "struct mixed { u32 a; u64 b; char c[5]; u32 d[COUNT]; /* u64 gone; */ };\n"
    )
    constants = header.parse_constants(text)
    structs = layout.parse_structs(text, constants)
    assert constants == {"COUNT": 3}
    mixed = structs["mixed"]

    class Mixed(ctypes.Structure):
        _fields_ = (
            ("a", ctypes.c_uint32),
            ("b", ctypes.c_uint64),
            ("c", ctypes.c_char * 5),
            ("d", ctypes.c_uint32 * 3),
        )

    assert mixed.itemsize == ctypes.sizeof(Mixed)
    for name in ("a", "b", "c", "d"):
        assert mixed.fields[name][1] == getattr(Mixed, name).offset  # type: ignore[index]
