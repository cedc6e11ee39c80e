# SPDX-License-Identifier: Apache-2.0
"""/proc/vmallocinfo, as 5.10 to 7.x write it."""

from __future__ import annotations

from pathlib import Path

from slabmon.kernel.memory.vmalloc import OTHER_CALLERS, UNKNOWN, VmallocReader, bounded, parse
from slabmon.memory.reading import VmallocCaller

PAGE = 4096
STACK = 16384
TEXT = """\
0x00000000c444b350-0x00000000a1667b6c    8192 map_iomem+0x1bc/0x1e0 phys=0x00000000000a0000 ioremap
0x00000000a1798b85-0x00000000a3da4632   20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4
0x00000000a1798b86-0x00000000a3da4633   20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=1 N1=3
0x00000000a1798b87-0x00000000a3da4634   36864 kernel_clone+0x94/0x3e0 pages=8 vmalloc N0=8
0x00000000b1798b85-0x00000000b3da4632  401408 load_ring+0x20/0x40 [nic] pages=97 vmalloc N0=97
0x00000000b1798b85-0x00000000b3da4632   20480 irq_init_percpu_irqstack+0xca/0x100 vmap
0x00000000b1798b85-0x00000000b3da4632   20480 unpurged vm_area
0x00000000b1798b85-0x00000000b3da4632    8192 vm_map_ram
0x00000000b1798b85-0x00000000b3da4632    8192 0xffffffffc0123456 pages=1 vmalloc N0=1
0x00000000b1798b85-0x00000000b3da4632 8192 prog_alloc.isra.0+0x39/0x230 pages=1 vmalloc vpages N0=1
"""


def test_pages_by_caller_largest_first() -> None:
    assert parse(TEXT, STACK) == [
        VmallocCaller(
            symbol="load_ring",
            offset=0x20,
            module="nic",
            areas=1,
            bytes=97 * PAGE,
            node_bytes={0: 97 * PAGE},
        ),
        VmallocCaller(
            symbol="kernel_clone",
            offset=0x94,
            areas=2,
            bytes=8 * PAGE,
            node_bytes={0: 5 * PAGE, 1: 3 * PAGE},
            stacks=True,
        ),
        VmallocCaller(
            symbol="kernel_clone", offset=0x94, areas=1, bytes=8 * PAGE, node_bytes={0: 8 * PAGE}
        ),
        VmallocCaller(symbol=UNKNOWN, offset=0, areas=1, bytes=PAGE, node_bytes={0: PAGE}),
        VmallocCaller(
            symbol="prog_alloc.isra.0",
            offset=0x39,
            areas=1,
            bytes=PAGE,
            node_bytes={0: PAGE},
        ),
    ]


def test_no_address_of_the_kernel_is_repeated() -> None:
    assert not any("ffffffff" in row.symbol for row in parse(TEXT, STACK))


def test_many_callers_become_a_bounded_number_of_rows() -> None:
    rows = parse(TEXT, STACK)
    short = bounded(rows, 3)
    assert short[:2] == tuple(rows[:2])
    assert short[2] == VmallocCaller(
        symbol=OTHER_CALLERS, offset=0, areas=3, bytes=10 * PAGE, node_bytes={0: 10 * PAGE}
    )


def test_reading_is_repeated_only_after_a_time_that_its_cost_sets(tmp_path: Path) -> None:
    path = tmp_path / "vmallocinfo"
    path.write_text(TEXT)
    times = iter([0.0, 0.01, 4.0, 6.0, 6.01, 6.02, 6.03])
    reader = VmallocReader(STACK, path, lambda: next(times))
    first = reader.read()
    path.write_text("")
    assert reader.read() == first  # 10 ms of reading are worth 5 s
    assert reader.read() == ()
    path.write_text(TEXT)
    assert reader.read(fresh=True) == first


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    reader = VmallocReader(STACK, tmp_path / "none")
    assert reader.read() is None
    assert reader.problem == f"{tmp_path}/none: No such file or directory"
