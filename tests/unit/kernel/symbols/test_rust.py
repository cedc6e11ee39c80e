# SPDX-License-Identifier: Apache-2.0
"""Names of Rust functions."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slabmon.kernel.symbols.rust import demangled


@pytest.mark.parametrize(
    ("mangled", "shown"),
    [
        # The first ones are those of RFC 2603, of rustc-demangle's tests, and of the reference.
        ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
        ("_RNvNvC1a1b1c", "a::b::c"),
        ("_RNCNvC7mycrate4main0B3_", "mycrate::main::{closure#0}"),
        ("_RNCNvC7mycrate4mains_0B3_", "mycrate::main::{closure#1}"),
        (
            "_RNvMsr_NtCs3ssYzQotkvD_3std4pathNtB5_7PathBuf3newCs15kBYyAo9fc_7mycrate",
            "<std::path::PathBuf>::new",
        ),
        ("_RINvNtC3std3mem8align_ofjdE", "std::mem::align_of<usize, f64>"),
        ("_RINvC7mycrate3fooKj1f_E", "mycrate::foo<31>"),
        ("_RINvC7mycrate3fooKin2_E", "mycrate::foo<-2>"),
        ("_RINvC7mycrate3fooKb1_E", "mycrate::foo<true>"),
        ("_RINvC1a1bRShE", "a::b<&[u8]>"),
        ("_RINvC1a1bQAhj40_E", "a::b<&mut [u8; 64]>"),
        ("_RINvC1a1bTmlEE", "a::b<(u32, i32)>"),
        ("_RINvC1a1bFUKCPhEbE", "a::b<unsafe fn(*const u8) -> bool>"),
        ("_RINvC1a1bDNtC1c1dEL_E", "a::b<dyn c::d>"),
        ("_RNvC7mycrateu8gdel_5qa", "mycrate::gödel"),
        # As in rust/kernel and rust_binder.
        (
            "_RNvXs_NtNtCs1_6kernel5alloc9allocatorNtB4_7KmallocNtB6_9Allocator7realloc",
            "<kernel::alloc::allocator::Kmalloc as kernel::alloc::Allocator>::realloc",
        ),
        (
            "_RNvMs_NtCsabc_6kernel4listINtB4_4ListNtCs5_11rust_binder4NodeE4push",
            "<kernel::list::List<rust_binder::Node>>::push",
        ),
        ("_RNvMNtC6binder6threadNtB2_6Thread3new.llvm.1234567", "<binder::thread::Thread>::new"),
    ],
)
def test_a_mangled_name_is_shown_as_its_path(mangled: str, shown: str) -> None:
    assert demangled(mangled) == shown


@pytest.mark.parametrize(
    "name", ["load_msg", "_RX", "_R", "_RNvC7mycrate", "_RNvB_1a", "_RINxC3foo3barpSR", "_Raw"]
)
def test_what_cannot_be_read_stays_as_it_is(name: str) -> None:
    assert demangled(name) == name


@given(st.text("NvCMXYIBs0123456789_abEKTFDLpnRSA", max_size=60).map("_R".__add__))
@example("_RB_")
@example("_RIB_B_E")
@example("_R" + "NvC" * 3000)
@example("_R" + "I" * 5000)
def test_any_name_ends_soon(name: str) -> None:
    """A module may have any symbol."""
    assert demangled(name)
