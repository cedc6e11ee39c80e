# SPDX-License-Identifier: Apache-2.0
"""The ledger of all memory on stock kernels, and memory of the planted module in its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vm.guest import planted as module

MOST_UNACCOUNTED = 0.02
WITHIN = 0.01
TRIES = 4
CPU_SECONDS = 900  # emulated, beside other guests
KERNEL_PAGES = ("order0", "order2", "order3")


@pytest.fixture
def held(planted: None) -> Iterator[dict[str, int]]:
    """The planted memory, there before slabmon is started."""
    yield module.memory("hold")
    module.memory("drop")


def ledger() -> dict[str, Any]:
    """What `slabmon memory` prints, once it adds up to MemTotal."""
    command = [sys.executable, "-m", "slabmon", "memory", "--format", "json"]
    command += ["--cpu-seconds", str(CPU_SECONDS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    with open("/proc/meminfo") as meminfo:
        total = int(meminfo.readline().split()[1]) << 10
    accounted = sum(row["bytes"] for row in document["rows"])
    assert accounted + document["unaccounted_bytes"] == document["total_bytes"] == total
    print({row["name"]: row["bytes"] for row in document["rows"] if row["bytes"]})
    print("unaccounted", document["unaccounted_bytes"], "moved", document["moved_bytes"])
    print(document["limits"])
    return document


def rows(document: dict[str, Any]) -> dict[str, int]:
    return {row["name"]: row["bytes"] for row in document["rows"]}


def order(document: dict[str, Any], number: int) -> int:
    return sum(row["bytes"] for row in document["kernel_blocks"] if row["order"] == number)


def by_others(document: dict[str, Any]) -> int:
    """What callers of vmalloc() hold beside the planted module and kernel stacks."""
    return sum(
        row["bytes"]
        for row in document["vmalloc"]
        if row["module"] != module.NAME and not row["stacks"]
    )


def test_a_host_at_rest_leaves_little_unaccounted() -> None:
    document = ledger()
    assert document["scanned"] is not None
    assert abs(document["unaccounted_bytes"]) <= MOST_UNACCOUNTED * document["total_bytes"]


@pytest.mark.usefixtures("planted")
def test_planted_memory_is_in_its_rows() -> None:
    """It is there before slabmon is started a second time. Others allocate and free pages
    meanwhile: one of several tries must be undisturbed. The kernel keeps an empty chunk of per-CPU
    memory after it is freed, so that is compared with the ledger before the first."""
    first = ledger()
    for _ in range(TRIES):
        empty = ledger()
        held = module.memory("hold")
        assert all(held.values())
        full = ledger()
        assert not any(module.memory("drop").values())
        grown = {name: size - rows(empty)[name] for name, size in rows(full).items()}
        names = (*KERNEL_PAGES, *(() if "page_pool" in grown else ("page_pool",)))  # unmarked then
        planted_pages = {"all": sum(held[name] for name in names)}
        planted_pages |= {f"order{number}": held[f"order{number}"] for number in (2, 3)}
        pages = {"all": grown["kernel_pages"]}
        pages |= {f"order{n}": order(full, n) - order(empty, n) for n in (2, 3)}
        if pages == pytest.approx(planted_pages, rel=WITHIN):
            break

    planted = [row for row in full["vmalloc"] if row["module"] == module.NAME]
    assert [(row["symbol"], row["areas"], row["bytes"]) for row in planted] == [
        ("planted_vmalloc", 61, held["vmalloc"])
    ]
    assert grown.get("page_pool", held["page_pool"]) == held["page_pool"]
    assert pages == pytest.approx(planted_pages, rel=WITHIN)
    # The per-CPU allocator keeps records of its chunks in vmalloc areas.
    others = by_others(full) - by_others(empty)
    assert grown["vmalloc"] - others == pytest.approx(held["vmalloc"], rel=WITHIN)
    percpu = rows(full)["percpu"] - rows(first)["percpu"]
    assert percpu == pytest.approx(held["percpu"], rel=WITHIN)
    assert abs(full["unaccounted_bytes"]) <= MOST_UNACCOUNTED * full["total_bytes"]


def test_page_pools_by_network_device(held: dict[str, int]) -> None:
    """The planted pool is the loopback's, which the kernel does not name: it has the pools whose
    device is gone (page_pool_nl_fill(), net/core/page_pool_user.c)."""
    document = ledger()
    pools = {row["name"]: row["bytes"] for row in document["within"]}
    if any("page pools by network device" in limit for limit in document["limits"]):
        pytest.skip("this kernel does not list page pools")
    assert pools["page_pool [no device]"] == held["page_pool"]
