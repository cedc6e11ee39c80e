# SPDX-License-Identifier: Apache-2.0
"""Facts from the kernel's own descriptions, here a synthetic BTF section."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slabmon.base.errors import UnsupportedHost
from slabmon.kernel.bpf import syscall
from slabmon.kernel.planning.plan import check_host
from slabmon.kernel.probe import btf as btf_module
from slabmon.kernel.probe import facts as facts_module
from slabmon.kernel.probe import slabinfo
from slabmon.kernel.probe.btf import Btf, Function
from slabmon.kernel.probe.cgroups import Cgroups
from slabmon.kernel.probe.facts import (
    Facts,
    cgroups_hidden,
    count_list,
    is_shown,
    lockdown_state,
    per_cpu_symbols,
    probe,
    read_text,
)
from tests.support.btf_blob import VOID, Blob
from tests.support.hosts import facts

HARDWALL_FORMAT = (
    'print fmt: "gfp_flags=%s", __print_flags(REC->gfp_flags, "|", '
    '{(unsigned long)(( gfp_t)0x20u), "__GFP_HIGH"}, '
    '{(unsigned long)(( gfp_t)0x20000u), "__GFP_HARDWALL"})'
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 1),
        ("0-3", 4),
        ("0-3,8", 9),
        ("0,2-5,7", 8),
        ("2", 3),
        ("0-1023", 1024),
        (None, 1),
        ("", 1),
    ],
)
def test_a_list_of_cpus_counts_up_to_its_highest(text: str | None, count: int) -> None:
    assert count_list(text) == count


@given(st.sets(st.integers(0, 8191), min_size=1))
def test_any_list_of_cpus_counts_up_to_its_highest(cpus: set[int]) -> None:
    assert count_list(",".join(map(str, sorted(cpus)))) == max(cpus) + 1


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("none [integrity] confidentiality", "integrity"),
        ("[none] integrity confidentiality", "none"),
        ("none integrity [confidentiality]", "confidentiality"),
        ("", "none"),
        (None, "none"),
        ("none", "none"),
    ],
)
def test_the_lockdown_state_is_the_bracketed_word(text: str | None, state: str) -> None:
    assert lockdown_state(text) == state


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_text(str(tmp_path / "absent")) is None
    assert read_text(str(tmp_path)) is None
    (tmp_path / "odd").write_bytes(b" \xff text \n")
    assert read_text(str(tmp_path / "odd")) == "\ufffd text"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "000000000001f590 A __preempt_count\n000000000002ac80 A runqueues\n"
            "ffffffff81000000 T runqueues_of\n",
            {"__preempt_count": 0x1F590, "runqueues": 0x2AC80},
        ),
        ("ffffffff81000000 T _text\n", {}),
        ("0000000000000000 A __preempt_count\n0000000000000000 A runqueues\n", {}),
        ("0000000000000010 A runqueues\nffffffff81000000 d runqueues\n", {}),
    ],
)
def test_per_cpu_variables_are_listed_or_not(
    tmp_path: Path, text: str, found: dict[str, int]
) -> None:
    (tmp_path / "kallsyms").write_text(text)
    assert per_cpu_symbols(path=tmp_path / "kallsyms") == found


def test_of_variables_of_one_name_those_below_an_address_count(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000010 A irq_count\nffffffff81000000 d irq_count\n")
    assert per_cpu_symbols(["irq_count"], path=path) == {}
    assert per_cpu_symbols(["irq_count"], end=1 << 24, path=path) == {"irq_count": 0x10}


def probe_with(blob: Blob, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """Facts of this host, except that its BTF is this."""
    monkeypatch.setattr(btf_module, "read_vmlinux", lambda: Btf(blob.build()))
    return probe()


@pytest.mark.parametrize(
    ("enum", "test", "in_flags"),
    [
        pytest.param({"PG_locked": 0, "PG_slab": 9}, (1 << 9, 1 << 9), True, id="6.9"),
        pytest.param(
            {"PG_buddy": 0x80, "PG_slab": 0x1000}, (0xF0001000, 0xF0000000), False, id="6.10"
        ),
        pytest.param(
            {"PG_buddy": 0x40000000, "PG_slab": 0x02000000},
            (0x82000000, 0x80000000),
            False,
            id="6.11",
        ),
        pytest.param(
            {"PGTY_buddy": 0xF0, "PGTY_slab": 0xF5}, (0xFF000000, 0xF5000000), False, id="6.12"
        ),
    ],
)
def test_the_test_for_a_slab_page_follows_the_kernels_enums(
    monkeypatch: pytest.MonkeyPatch,
    enum: dict[str, int],
    test: tuple[int, int],
    in_flags: bool,
) -> None:
    blob = Blob()
    blob.enum("", enum)
    found = probe_with(blob, monkeypatch)
    assert (found.slab_test, found.slab_test_in_flags) == (test, in_flags)


def test_what_btf_describes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = Blob()
    u32, u64 = blob.integer("unsigned int", 4), blob.integer("unsigned long", 8)
    pointer = blob.pointer(VOID)
    layout = blob.struct("module_layout", 80, [("base", pointer, 0), ("text_size", u32, 96)])
    fields = [("name", u64, 24 * 8), ("core_layout", layout, 320 * 8)]
    blob.struct("module", 800, fields)
    blob.struct("kmem_cache", 200, [("flags", u64, 64), ("size", u32, 192), ("name", pointer, 320)])
    blob.struct("devres", 56, [])
    blob.tracepoint("kfree", [u64, pointer])
    blob.function("bpf_prog_inc_misses_counter", blob.prototype([pointer]))
    kfunc = blob.function("bpf_get_kmem_cache", blob.prototype([u64]))
    blob.enum("", {"___GFP_DMA_BIT": 0, "___GFP_HARDWALL_BIT": 17})
    blob.enum("", {"_SLAB_CACHE_DMA": 3, "_SLAB_ACCOUNT": 12})
    found = probe_with(blob, monkeypatch)
    assert found.btf
    assert found.prototypes == {"kfree": ("unsigned long", "void *")}
    assert found.offsets == {
        "OFF_CACHE_FLAGS": 8,
        "OFF_CACHE_SIZE": 24,
        "OFF_CACHE_NAME": 40,
        "OFF_MODULE_NAME": 24,
        "OFF_MODULE_BASE": 320,
        "OFF_MODULE_BYTES": 332,
    }
    assert found.sizes == {"devres": 56}
    assert found.flags_bytes == 8
    assert found.recursion_guard
    assert found.kfunc_get_cache == kfunc
    assert found.gfp_bits == {"DMA": 0, "HARDWALL": 17}
    assert found.slab_flags == {"CACHE_DMA": 1 << 3, "ACCOUNT": 1 << 12}


def with_bulk_frees() -> tuple[Blob, Function]:
    blob = Blob()
    pointer = blob.pointer(VOID)
    proto = blob.prototype([pointer, blob.typedef("size_t", blob.integer("unsigned long", 8))])
    free = blob.function("kmem_cache_free_bulk", proto)
    return blob, Function(free, "void", ("void *", "size_t"))


@pytest.mark.parametrize("refused", ["", "Operation not permitted"])
def test_functions_are_found_and_tried_once(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    tried: list[int] = []

    def refuses(btf_id: int) -> str:
        tried.append(btf_id)
        return refused

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(syscall, "refuses_fentry", refuses)
    blob, free = with_bulk_frees()
    found = probe_with(blob, monkeypatch)
    assert found.functions == {"kmem_cache_free_bulk": free}
    assert (found.fentry_refused, tried) == (refused, [free.btf_id])


def test_nothing_is_tried_without_root_or_without_a_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syscall, "refuses_fentry", pytest.fail)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert probe_with(Blob(), monkeypatch).fentry_refused == ""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = probe_with(with_bulk_frees()[0], monkeypatch)
    assert (len(found.functions), found.fentry_refused) == (1, "")


def test_without_btf_nothing_of_it_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btf_module, "read_vmlinux", lambda: None)
    found = probe()
    assert not found.btf
    assert (found.prototypes, found.offsets, found.sizes) == ({}, {}, {})
    assert found.kfunc_get_cache is None


VISIBLE = b"ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff81200000 T _etext\n"
# Linux up to 6.14 on x86-64 lists its per-CPU variables first, which begin at address 0.
PER_CPU_FIRST = b"0000000000000000 A fixed_percpu_data\n0000000000000000 A __per_cpu_start\n"
HIDDEN = b"0000000000000000 T _stext\n0000000000000000 T _text\n0000000000000000 T _etext\n"


@pytest.mark.parametrize(
    ("kallsyms", "visible"),
    [
        pytest.param(VISIBLE, True, id="6.18"),
        pytest.param(PER_CPU_FIRST + VISIBLE, True, id="6.12"),
        pytest.param(HIDDEN, False, id="hidden"),
        pytest.param(PER_CPU_FIRST + HIDDEN, False, id="6.12, hidden"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_hidden_addresses_are_told_from_visible_ones(
    monkeypatch: pytest.MonkeyPatch, kallsyms: bytes, visible: bool
) -> None:
    def read(path: str, mode: str = "r") -> IO[Any]:
        return io.BytesIO(kallsyms) if path == "/proc/kallsyms" else open(path, mode)

    monkeypatch.setattr(facts_module, "open", read, raising=False)
    assert probe_with(Blob(), monkeypatch).kallsyms is visible


def test_gfp_bits_come_from_the_tracepoint_format_where_btf_has_no_enum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before 6.10 (kernel commit 772dd0342727) the flags are macros, which BTF does not hold."""

    def read(path: str) -> str | None:
        return HARDWALL_FORMAT if path.endswith("/format") else read_text(path)

    monkeypatch.setattr(facts_module, "read_text", read)
    found = probe_with(Blob(), monkeypatch)
    assert found.gfp_bits.get("HARDWALL") == 17


@pytest.mark.parametrize(
    ("names", "listed", "decides"),
    [
        (["kmalloc-64", "kmalloc-cg-64", "dma-kmalloc-64"], [], True),
        (["kmalloc-64", "kmalloc-rnd-01-64"], [], False),
        (["kmalloc-64", "kmalloc-part-03-64"], [], False),
        ([], ["kmalloc-64"], True),
        ([], ["kmalloc-64", "kmalloc-rnd-01-64"], False),
        ([], [], False),
    ],
)
def test_random_kmalloc_caches_are_noticed(
    monkeypatch: pytest.MonkeyPatch, names: list[str], listed: list[str], decides: bool
) -> None:
    """There one call site can use several caches. A container may hide /sys, and what is not known
    is not assumed."""
    monkeypatch.setattr(os, "listdir", lambda _: names)
    monkeypatch.setattr(slabinfo, "read", lambda: dict.fromkeys(listed))
    found = probe_with(Blob(), monkeypatch)
    assert found.site_decides_cache is decides
    assert found.slab_directory is bool(names)


@pytest.mark.parametrize(
    ("mounts", "reason"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0", ""),
        ("tmpfs /sys/fs/cgroup tmpfs rw 0 0", "no hierarchy of cgroups is mounted here"),
        # A folder whose inode number is not that of a hierarchy's root.
        ("cgroup2 /proc/self cgroup2 rw 0 0", "only a part of the hierarchy"),
    ],
)
def test_a_container_may_hide_the_names_of_cgroups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, reason: str
) -> None:
    file = tmp_path / "mounts"
    file.write_text(mounts + "\n")
    stat = os.stat

    def stat_root(path: Any, **options: Any) -> os.stat_result:
        found = stat("/proc/self" if str(path).startswith("/sys/fs/cgroup") else path, **options)
        inode = 1 if str(path).startswith("/sys/fs/cgroup") else found.st_ino
        return os.stat_result((found.st_mode, inode, *found[2:]))

    monkeypatch.setattr(os, "stat", stat_root)
    assert cgroups_hidden(Cgroups(file)).startswith(reason)
    assert bool(cgroups_hidden(Cgroups(file))) == bool(reason)


def test_hidden_cpus_are_no_single_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of the others would be lost without a word."""
    hidden = "/sys/devices/system/cpu/possible"
    monkeypatch.setattr(
        facts_module, "read_text", lambda path: None if path == hidden else read_text(path)
    )
    with pytest.raises(UnsupportedHost, match=hidden):
        check_host(replace(facts(), cpus=probe_with(Blob(), monkeypatch).cpus))


@pytest.mark.parametrize(
    ("path", "shown"), [("/proc/self/status", True), ("/dev/null", False), ("/proc/absent", False)]
)
def test_a_file_in_the_place_of_one_of_proc_is_not_the_kernels(path: str, shown: bool) -> None:
    assert is_shown(path) is shown
