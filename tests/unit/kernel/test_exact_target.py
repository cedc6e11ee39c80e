# SPDX-License-Identifier: Apache-2.0
"""What a filter selects on a host: caches by all their names, cgroups, processes, kernel text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slabmon.base.errors import UsageError
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.exact_target import (
    ModuleNotLoadedError,
    Target,
    Text,
    check_module,
    filtered_text,
    find_target,
)
from slabmon.kernel.probe.cgroups import ANY_LEVEL, Cgroups
from slabmon.kernel.probe.slabinfo import SlabDirectory
from slabmon.kernel.symbols.kallsyms import Symbols
from tests.support.kallsyms import CORE, MODULE, Host

KINDS = ("kmalloc-64", "kmalloc-cg-64", "kmalloc-rcl-64", "kmalloc-rnd-07-64", "dma-kmalloc-64")


@pytest.fixture
def slabs(tmp_path: Path) -> SlabDirectory:
    """/sys/kernel/slab, where UNIX and signal_cache are one cache."""
    root = tmp_path / "slab"
    for name in (*KINDS, "kmalloc-4k", "msg_msg-4k", "dentry", ":0001216"):
        (root / name).mkdir(parents=True)
        (root / name / "object_size").write_text(f"{64 if name in KINDS else 4096}\n")
        (root / name / "reclaim_account").write_text("0\n")
    for name in ("UNIX", "signal_cache"):
        (root / name).symlink_to(":0001216")
    return SlabDirectory(root)


@pytest.fixture
def cgroups(tmp_path: Path) -> Cgroups:
    (tmp_path / "cgroup" / "par" / "child").mkdir(parents=True)
    (tmp_path / "mounts").write_text(f"cgroup2 {tmp_path / 'cgroup'} cgroup2 rw 0 0\n")
    return Cgroups(tmp_path / "mounts")


@pytest.mark.parametrize(
    ("exact", "caches"),
    [
        (Filter(cache="kmalloc-64"), ("kmalloc-64",)),
        (Filter(cache="UNIX"), ("UNIX", "signal_cache")),
        (Filter(cache="signal_cache"), ("UNIX", "signal_cache")),
        (Filter(cache="dentry#2"), ("dentry",)),
        (Filter(cache="kmalloc-large"), ("kmalloc-large",)),
        (Filter(family="kmalloc-64"), tuple(sorted(KINDS))),
        (Filter(family="kmalloc-large"), ("kmalloc-large",)),
        (Filter(family="dentry"), ("dentry",)),
        (Filter(family="UNIX"), ("UNIX", "signal_cache")),
        (Filter(site="load_msg"), ()),
    ],
)
def test_caches_are_found_by_all_their_names(
    slabs: SlabDirectory, cgroups: Cgroups, exact: Filter, caches: tuple[str, ...]
) -> None:
    """The kernel has one name of a merged cache, which can be any of them."""
    assert find_target(exact, cgroups, slabs).caches == caches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache=kmaloc-64", "cache=kmaloc-64: no such cache; near names: kmalloc-64, "),
        ("cache=UNX", "near names: UNIX"),
        ("cache=msg", "near names: msg_msg-4k"),
        ("cache=zzzz", "no such cache; ls /sys/kernel/slab lists all names"),
        ("family=kmalloc-4096", "family=kmalloc-4096: no such family of caches; near names: km"),
        ("family=kmalloc-cg-64", "near names: kmalloc-64"),
        ("cache=kmalloc-64,min_size=65", "min_size=65: objects of kmalloc-64 have at most 64 b"),
        ("family=kmalloc-64,min_size=65", "have at most 64 bytes; nothing can match"),
        ("cgroup=/par/chidl", "cgroup=/par/chidl: No such file or directory"),
        ("cgroup=/par/chidl", "; near names: /par/child"),
        ("pid=4194305", "pid=4194305: no such process"),
    ],
)
def test_a_filter_that_can_match_nothing_is_an_error(
    slabs: SlabDirectory, cgroups: Cgroups, text: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        find_target(Filter.parse(text), cgroups, slabs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_that_can_match_are_accepted(slabs: SlabDirectory, cgroups: Cgroups) -> None:
    for text in ("cache=kmalloc-64,min_size=64", "cache=kmalloc-large,min_size=9999"):
        assert find_target(Filter.parse(text), cgroups, slabs).caches


def test_where_sysfs_is_hidden_names_cannot_be_checked(tmp_path: Path, cgroups: Cgroups) -> None:
    hidden = SlabDirectory(tmp_path / "absent")
    assert find_target(Filter(cache="any#2"), cgroups, hidden).caches == ("any",)


def test_a_cgroup_has_a_level_where_the_whole_hierarchy_is_mounted(cgroups: Cgroups) -> None:
    """Only its root has the inode number 1."""
    inode = os.stat(cgroups._root or "").st_ino
    assert inode != 1
    assert find_target(Filter(cgroup="/par/child"), cgroups).level == ANY_LEVEL


def test_a_process_is_selected_with_all_its_threads(tmp_path: Path, cgroups: Cgroups) -> None:
    for pid in (12, 13):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "status").write_text(f"Name:\tx\nTgid:\t12\nPid:\t{pid}\n")
    assert find_target(Filter(pid=12), cgroups, proc=tmp_path) == Target(pid=12)
    with pytest.raises(UsageError, match=r"pid=13: .*; use pid=12 "):
        find_target(Filter(pid=13), cgroups, proc=tmp_path)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "modules.dep").write_text("kernel/drivers/net/veth.ko.xz: \nextra/snd-hda.ko: a.ko\n")
    (folder / "modules.builtin").write_text("kernel/drivers/nvme/host/nvme.ko\n")
    return folder


@pytest.mark.parametrize("name", ["veth", "snd-hda", "snd_hda", "card", "brought_from_elsewhere"])
def test_a_module_may_be_loaded_later(symbols: Symbols, modules: Path, name: str) -> None:
    check_module(name, symbols, modules)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nvme", "module=nvme: it is built into the kernel; use site=FUNCTION"),
        ("vethh", "module=vethh: no such module; near names: veth"),
    ],
)
def test_a_module_that_cannot_be_meant_is_an_error(
    symbols: Symbols, modules: Path, name: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_module(name, symbols, modules)
    assert message in str(caught.value)


def test_a_kernel_without_modules_has_no_module_to_wait_for(tmp_path: Path) -> None:
    Host(tmp_path)
    without = Symbols(tmp_path / "kallsyms", tmp_path / "absent")
    with pytest.raises(UsageError, match="no loadable modules"):
        check_module("card", without, tmp_path)


@pytest.mark.parametrize(
    "wanted", [Filter(site="__kmalloc_noprof"), Filter(module="card"), Filter(module="late")]
)
def test_hidden_addresses_are_the_reason_that_no_code_is_found(
    tmp_path: Path, wanted: Filter
) -> None:
    """The module is loaded, at 0 as far as the kernel shows it: nothing would match."""
    host = Host(tmp_path, hidden=True)
    host.load("card", MODULE, [(0x10, "card_init")])
    with pytest.raises(UsageError, match=r"(site|module)=.*kptr_restrict") as caught:
        filtered_text(wanted, host.symbols())
    assert not isinstance(caught.value, ModuleNotLoadedError)


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    host = Host(tmp_path)
    host.load("card", MODULE, [(0x10, "card_init"), (0x40, "card_probe")])
    return host.symbols()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ()),
        (Filter(cache="kmalloc-64"), ()),
        (Filter(site="__kmalloc_noprof"), ((CORE + 0x10, CORE + 0x80),)),
        (Filter(site="__kmalloc_noprof+0x1c"), ((CORE + 0x2C, CORE + 0x2D),)),
        (Filter(site="__kmalloc_noprof+28"), ((CORE + 0x2C, CORE + 0x2D),)),
        (Filter(module="card"), ((MODULE, MODULE + 0x1000),)),
    ],
)
def test_sites_and_modules_become_ranges(
    symbols: Symbols, wanted: Filter | None, found: Text
) -> None:
    assert filtered_text(wanted, symbols) == found


def test_a_function_of_a_module_can_be_a_site(symbols: Symbols) -> None:
    """The sites view shows it under this name."""
    assert filtered_text(Filter(site="card_probe+0x4"), symbols) == (
        (MODULE + 0x44, MODULE + 0x45),
    )


def test_the_module_of_a_site_tells_functions_of_one_name_apart(tmp_path: Path) -> None:
    """As the sites view shows it: `setup` of the kernel, of card, and of disk."""
    host = Host(tmp_path)
    host.extra = f"{CORE + 0x180:016x} t setup\n"
    host.load("card", MODULE, [(0x10, "setup")])
    host.load("disk", MODULE + 0x2000, [(0x20, "setup")])
    symbols = host.symbols()
    for site, start in (
        ("setup+0x4", CORE + 0x184),
        ("setup+0x4 [card]", MODULE + 0x14),
        ("setup+0x4 [disk]", MODULE + 0x2024),
    ):
        assert filtered_text(Filter(site=site), symbols) == ((start, start + 1),)
    with pytest.raises(UsageError, match="no kernel function is called 'setup'"):
        filtered_text(Filter(site="setup [lost]"), symbols)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Filter(site="absent"), ["absent", "/proc/kallsyms"]),
        (Filter(site="__kmalloc_noprof+far"), ["+far", "OFFSET"]),
        (Filter(site="__kmalloc_noprof+"), ["__kmalloc_noprof+", "OFFSET"]),
        (Filter(module="absent"), ["absent", "lsmod"]),
    ],
)
def test_what_does_not_exist_is_a_usage_error(
    symbols: Symbols, wanted: Filter, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        filtered_text(wanted, symbols)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_name_of_several_functions_is_an_error(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.extra = "".join(f"{CORE + at:016x} t copy\n" for at in (0x180, 0x1C0))
    host.write()
    symbols = host.symbols()
    with pytest.raises(UsageError, match=r"site=copy: expected one .* use one of copy#1, copy#2"):
        filtered_text(Filter(site="copy"), symbols)
    assert filtered_text(Filter(site="copy#2"), symbols) == ((CORE + 0x1C0, CORE + 0x200),)
    assert filtered_text(Filter(site="copy#2+0x4"), symbols) == ((CORE + 0x1C4, CORE + 0x1C5),)
    assert filtered_text(Filter(site="copy+0x4"), symbols) == ((CORE + 0x184, CORE + 0x185),)
