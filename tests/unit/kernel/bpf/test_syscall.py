# SPDX-License-Identifier: Apache-2.0
"""The bpf() calls, as the kernel would read them (union bpf_attr, include/uapi/linux/bpf.h)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import resource
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slabmon.kernel.bpf import syscall
from slabmon.kernel.loading.loader import Programs
from slabmon.kernel.planning.plan import Plan, make_plan
from slabmon.kernel.settings import Settings
from tests.support import gcc
from tests.support.hosts import facts

PROG_LOAD, MAP_UPDATE, LINK = 5, 2, 17
RAW_TRACEPOINT, TRACING = 17, 26
NOTHING = bytes(16)
Answer = Callable[[int, bytes], int]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Sets who answers in the kernel's place: command and attributes to a descriptor."""

    def by(reply: Answer) -> None:
        monkeypatch.setattr(syscall, "bpf", lambda command, data: reply(command, bytes(data)))

    return by


def words(data: bytes, *places: int) -> list[int]:
    return [struct.unpack_from("<I", data, place)[0] for place in places]


def pointer(data: bytes, place: int) -> int:
    return int(struct.unpack_from("<Q", data, place)[0])


@pytest.mark.parametrize(
    ("kind", "btf_id", "fields"),
    [
        ("", 0, [RAW_TRACEPOINT, 2, 0, 0]),
        ("fentry", 4321, [TRACING, 2, 24, 4321]),
        ("fexit", 4321, [TRACING, 2, 25, 4321]),
    ],
)
def test_a_program_is_loaded_for_its_function(
    answer: Callable[[Answer], None], kind: str, btf_id: int, fields: list[int]
) -> None:
    """Type, instructions, expected_attach_type and attach_btf_id."""
    seen = []

    def reply(command: int, data: bytes) -> int:
        assert command == PROG_LOAD
        assert ctypes.string_at(pointer(data, 8), 16) == NOTHING
        assert ctypes.string_at(pointer(data, 16)) == b"GPL"
        assert data[48:64] == b"on_bulk_alloc\0\0\0"
        seen.append(words(data, 0, 4, 68, 108))
        return 9

    answer(reply)
    assert syscall.load("on_bulk_alloc", NOTHING, kind, btf_id) == 9
    assert seen == [fields]


@pytest.mark.parametrize(
    "create", [lambda: syscall.load("x", NOTHING), lambda: syscall.create_array("x", 8, 1)]
)
def test_what_is_charged_as_locked_memory_is_not_limited(
    answer: Callable[[Answer], None],
    monkeypatch: pytest.MonkeyPatch,
    create: Callable[[], int],
) -> None:
    """Before 5.11: the limit is raised, and the call made again."""
    limits: list[tuple[object, ...]] = []

    def reply(command: int, data: bytes) -> int:
        if not limits:
            raise OSError(errno.EPERM, "Operation not permitted")
        return 9

    monkeypatch.setattr(resource, "setrlimit", lambda *args: limits.append(args))
    answer(reply)
    assert create() == 9
    assert len(limits) == 1


def test_an_error_carries_what_the_verifier_says(answer: Callable[[Answer], None]) -> None:
    levels = []

    def reply(command: int, data: bytes) -> int:
        levels.append(words(data, 24)[0])
        if levels[-1]:
            ctypes.memmove(pointer(data, 32), b"line\nR1 is not a pointer\n\0", 26)
        raise OSError(errno.EACCES, "Permission denied")

    answer(reply)
    with pytest.raises(OSError, match=r"verifier: line \| R1 is not a pointer") as caught:
        syscall.load("x", NOTHING)
    assert caught.value.errno == errno.EACCES
    assert levels == [0, 1], "the log is asked for only when there is an error"


@pytest.mark.parametrize("tracepoint", ["kmalloc", ""])
def test_a_program_is_attached_to_a_tracepoint_or_to_its_function(
    answer: Callable[[Answer], None], tracepoint: str
) -> None:
    def reply(command: int, data: bytes) -> int:
        name, program = struct.unpack_from("<QI", data)
        assert (command, program) == (LINK, 9)
        assert (ctypes.string_at(name).decode() if name else "") == tracepoint
        return 11

    answer(reply)
    assert syscall.attach(9, tracepoint) == 11


def test_a_tail_call_goes_to_index_0(answer: Callable[[Answer], None]) -> None:
    def reply(command: int, data: bytes) -> int:
        assert (command, words(data, 0)) == (MAP_UPDATE, [5])
        found = [ctypes.c_uint32.from_address(pointer(data, place)).value for place in (8, 16)]
        assert found == [0, 9]
        assert pointer(data, 24) == 0
        return 0

    answer(reply)
    syscall.set_tail_call(5, 9)


UAPI = {
    "_MapCreate": ("union bpf_attr", ""),
    "MapElement": ("union bpf_attr", ""),
    "MapBatch": ("union bpf_attr", "batch."),
    "_ProgLoad": ("union bpf_attr", ""),
    "_ObjPin": ("union bpf_attr", ""),
    "_TestRun": ("union bpf_attr", "test."),
    "_GetInfo": ("union bpf_attr", "info."),
    "_RawTracepointOpen": ("union bpf_attr", "raw_tracepoint."),
    "_EnableStats": ("union bpf_attr", "enable_stats."),
    "_ProgInfo": ("struct bpf_prog_info", ""),
}


def test_structures_have_the_names_and_offsets_of_the_kernels_header(tmp_path: Path) -> None:
    if not Path("/usr/include/linux/bpf.h").exists():
        pytest.skip("the kernel's headers for user space are not installed")
    lines = ["#include <linux/bpf.h>", "#include <stddef.h>", "#include <stdio.h>"]
    lines.append("int main(void) {")
    expected = []
    for name, (kind, prefix) in UAPI.items():
        structure = getattr(syscall, name)
        for member, *_ in structure._fields_:
            if member == "gpl_compatible":  # a bit field: it has no offset
                continue
            path, field = f"{prefix}{member}", getattr(structure, member)
            lines.append(f'printf("{name}.{member} %zu %zu\\n", offsetof({kind}, {path}),')
            lines.append(f"sizeof((({kind} *)0)->{path}));")
            expected.append(f"{name}.{member} {field.offset} {field.size}")
    program = gcc.build(tmp_path, "\n".join([*lines, "return 0; }"]))
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == expected


def test_commands_have_the_numbers_of_the_kernels_header(tmp_path: Path) -> None:
    if not Path("/usr/include/linux/bpf.h").exists():
        pytest.skip("the kernel's headers for user space are not installed")
    names = [name for name in vars(syscall) if name.startswith("BPF_")]
    lines = [f'printf("%d\\n", {name});' for name in names]
    text = "\n".join(
        ["#include <linux/bpf.h>", "#include <stdio.h>", "int main(void) {", *lines, "return 0; }"]
    )
    program = gcc.build(tmp_path, text)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert [int(line) for line in printed.split()] == [getattr(syscall, name) for name in names]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_fentry_is_tried_and_nothing_is_left_open(answer: Callable[[Answer], None]) -> None:
    commands = []

    def reply(command: int, data: bytes) -> int:
        commands.append(command)
        return os.open(os.devnull, os.O_RDONLY)

    answer(reply)
    before = descriptors()
    assert syscall.refuses_fentry(4321) == ""
    assert (commands, descriptors()) == ([PROG_LOAD, LINK], before)


@pytest.mark.parametrize("refused", [PROG_LOAD, LINK])
def test_a_refusal_is_returned_and_nothing_is_left_open(
    answer: Callable[[Answer], None], refused: int
) -> None:
    def reply(command: int, data: bytes) -> int:
        if command == refused:
            raise OSError(errno.EPERM, "Operation not permitted")
        return os.open(os.devnull, os.O_RDONLY)

    answer(reply)
    before = descriptors()
    assert syscall.refuses_fentry(4321) == "Operation not permitted"
    assert descriptors() == before


def hooked() -> tuple[Plan, Programs]:
    plan = make_plan(facts(), Settings())
    maps = {"bulk_alloc_next": 1, "bulk_free_next": 2}
    names = ("bulk_alloc", "bulk_free", "rcu_free", "driver_probe", "driver_probe_end")
    return plan, Programs(maps, {f"on_{name}": 11 + i for i, name in enumerate(names)}, {})


def test_programs_can_call_themselves_before_they_are_attached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[tuple[int, ...]] = []

    def note(*args: int) -> int:
        done.append(args)
        return 99

    monkeypatch.setattr(syscall, "set_tail_call", note)
    monkeypatch.setattr(syscall, "attach", note)
    plan, programs = hooked()
    programs.attach_hooks(plan)
    assert sorted(done) == [(1, 11), (2, 12), (11,), (12,), (13,), (14,), (15,)]
    assert done.index((1, 11)) < done.index((11,))
    assert done.index((2, 12)) < done.index((12,))


def test_a_function_that_is_refused_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(program: int) -> int:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(syscall, "set_tail_call", lambda *args: None)
    monkeypatch.setattr(syscall, "attach", refuse)
    plan, programs = hooked()
    failed = programs.attach_hooks(plan)
    assert failed.keys() == plan.hooks.keys()
    assert all("busy" in reason for reason in failed.values())


def test_a_program_that_was_not_loaded_keeps_its_reason() -> None:
    plan, loaded = hooked()
    programs = Programs(loaded.maps, {}, {}, refused={"on_bulk_free": "too old"})
    failed = programs.attach_hooks(plan)
    assert failed["on_bulk_free"] == "too old"
    assert failed["on_bulk_alloc"] == "refused before the restart"


def test_of_two_programs_of_one_feature_both_are_attached_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry without its exit would leave a task in the probe for ever."""
    attached = []

    def attach(program: int) -> int:
        attached.append(program)
        if program == 15:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return 99

    monkeypatch.setattr(syscall, "set_tail_call", lambda *args: None)
    monkeypatch.setattr(syscall, "attach", attach)
    plan, programs = hooked()
    assert programs.attach_hooks(plan).keys() == {"on_driver_probe", "on_driver_probe_end"}
    assert 15 in attached
    assert 14 not in attached


def test_an_exit_whose_entry_is_refused_is_detached(monkeypatch: pytest.MonkeyPatch) -> None:
    def attach(program: int) -> int:
        if program == 14:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(syscall, "set_tail_call", lambda *args: None)
    monkeypatch.setattr(syscall, "attach", attach)
    plan, programs = hooked()
    assert programs.attach_hooks(plan).keys() == {"on_driver_probe"}
    assert programs.attached_events == {"on_bulk_alloc", "on_bulk_free", "on_rcu_free"}
    programs.detach(programs.attached_events)


def test_an_exit_is_attached_before_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    attached: list[int] = []

    def attach(program: int) -> int:
        attached.append(program)
        return 99

    monkeypatch.setattr(syscall, "set_tail_call", lambda *args: None)
    monkeypatch.setattr(syscall, "attach", attach)
    plan, programs = hooked()
    assert programs.attach_hooks(plan) == {}
    assert attached.index(15) < attached.index(14)


def test_a_plan_without_hooks_attaches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall, "attach", pytest.fail)
    plan, programs = hooked()
    programs.attach_hooks(replace(plan, hooks={}))


def test_calls_leave_no_cyclic_garbage() -> None:
    """The daemon makes them for months, and has its garbage collector run rarely."""

    def call() -> None:
        with contextlib.suppress(OSError):
            syscall.program_info(2**31 - 1)  # of no program

    call()
    gc.collect()
    for _ in range(5):
        call()
    assert gc.collect() == 0
