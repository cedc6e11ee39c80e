# SPDX-License-Identifier: Apache-2.0
"""Hosts on which everything happens that slabmon can report, for queries that a quiet host leaves
empty. Counters grow with each scrape; made by the exporter itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from slabmon.base.gfp import MODIFIERS
from slabmon.base.workloads import WorkloadNames, named, of_path
from slabmon.census.model import Certainty, OrphanObjects, OwnedObjects
from slabmon.export.metrics import Daemon
from slabmon.export.prometheus import Exporter
from slabmon.kernel.probe.gfp import CLASSES
from slabmon.leaks.finding import (
    Assessment,
    Dismissal,
    Exhaustion,
    Finding,
    Holders,
    Kind,
    Strength,
)
from slabmon.memory.reading import AllocTag
from slabmon.model import GfpClass, GfpModifier, Live, PageOrder, Slabinfo, Snapshot
from slabmon.runtime.budget import Cost
from tests.support import scraping
from tests.support.builders import cache, device, page_site, site, snapshot
from tests.support.figures import daemon_figures
from tests.support.memory import reading
from tests.unit.export.test_census import CENSUS

_MIB, _GIB = 1 << 20, 1 << 30
VERDICT = Finding(
    kind=Kind.SITE,
    key=("probe_card", 0x40),
    name="probe_card+0x40",
    module="card",
    drivers=("card",),
    devices=("pci 0000:00:03.0",),
    caches=("kmalloc-64",),
    sites=(),
    strength=Strength.STRONG,
    growth=3.6e6,
    low=3e6,
    high=4e6,
    window=21_600.0,
    grown=2e7,
    live=3e7,
    p=1e-9,
    evidence_for=("it grows",),
    evidence_against=(),
    callers=("card_open [card] 90%",),
    holders=Holders(processes=("reader 80%",), containers=("shop/web-0/nginx 80%",)),
)

HOST_CENSUS = replace(
    CENSUS,
    owners=(
        OwnedObjects(
            cache="dentry",
            type="dentry",
            signature="struct dentry",
            certainty=Certainty.EXACT,
            objects=100,
            bytes=19200,
        ),
        OwnedObjects(
            cache="filp",
            module="card",
            signature="points to card_ops [card]",
            certainty=Certainty.LIKELY,
            objects=30,
            bytes=5760,
        ),
    ),
    passes=3,
    orphans=(
        OrphanObjects(
            cache="filp", module="card", signature="holds card_fires [card]", objects=3, bytes=576
        ),
    ),
)

IN_POD = f"/kubepods.slice/kubepods-pod{'a' * 32}.slice/cri-containerd-{'c' * 64}.scope"
NAMES = {"c" * 64: WorkloadNames("nginx", "web-0", "shop")}
PROJECTION = Exhaustion(available=8 << 30, seconds=9000.0, earliest=8000.0, latest=11000.0)


@dataclass
class SyntheticHost:
    """A host of one kernel release; `up` as its daemon says."""

    release: str
    up: bool = True
    scrapes: int = 0
    exporter: Exporter = field(default_factory=Exporter)

    def scrape(self) -> str:
        """The next scrape's text."""
        self.scrapes += 1
        return scraping.text(
            self.exporter.families(
                self._snapshot(),
                self._daemon(),
                Assessment(
                    observed=90_000.0,
                    needed=1215.0,
                    series=42,
                    left_out=0,
                    memory=16 << 30,
                    verdicts=(VERDICT,),
                    exhausting=(replace(VERDICT, exhaustion=PROJECTION),),
                    dismissed=(replace(VERDICT, dismissed="it stopped", dismissal=Dismissal.OVER),),
                ),
                census=HOST_CENSUS,
            )
        )

    def _snapshot(self) -> Snapshot:
        n, plain = self.scrapes, snapshot()
        live = Live(100 * n, 6_400 * n, 500, 6_000 * n, 7_000 * n)
        growing: dict[str, Any] = {
            "allocs": 1000 * n,
            "failed": 3 * n,
            "allocated_bytes": 64_000 * n,
            "live": live,
        }
        return replace(
            plain,
            host=replace(plain.host, release=self.release),
            caches=(
                cache(
                    frees=900 * n,
                    requested_bytes=50_000 * n,
                    freed_bytes=57_600 * n,
                    unobserved_frees=n,
                    slabinfo=Slabinfo(100 * n, 200 * n, 64, 100 * _MIB * n),
                    **growing,
                ),
                cache("dentry", reclaimable=True, slabinfo=Slabinfo(1, 1, 192, 4096)),
                cache("files_cache", frees_observable=False, slabinfo=Slabinfo(1, 1, 704, 4096)),
            ),
            sites=(site(**growing), site("probe_card", 0x40, "card", **growing)),
            devices=(
                device(
                    driver="card",
                    resources=3 + n,
                    managed_bytes=300 * n,
                    slab_bytes=512 * n,
                    added=4 * n,
                    removed=n,
                    dma_bytes=8192 * n,
                    dma_allocs=3 * n,
                    dma_frees=n,
                    dma_allocated_bytes=12288 * n,
                ),
            ),
            gfp=tuple(GfpClass(name, 1000 * n, 64_000 * n, 3 * n) for name in CLASSES),
            modifiers=tuple(GfpModifier(name, 1000 * n, 64_000 * n, 3 * n) for name in MODIFIERS),
            sizes=tuple(replace(size, allocs=90 * n) for size in plain.sizes),
            nodes=tuple(replace(node, allocs=60 * n) for node in plain.nodes),
            page_sites=(
                *plain.page_sites,
                page_site(symbol="probe_card", offset=0x80, module="card", live=live),
            ),
            pages=(PageOrder(0, "kernel", 5 * n, 0, 1), PageOrder(0, None, 0, 4 * n, 0)),
            losses={"nesting": 50 * n},
            memory=replace(
                reading(MemTotal=64 * _GIB, MemFree=60 * _GIB - 40 * _MIB * n),
                allocinfo=(
                    AllocTag(
                        file="drivers/card/probe.c",
                        line=40,
                        function="probe_card",
                        module="card",
                        bytes=6_400 * n,
                        calls=100 * n,
                    ),
                ),
            ),
            programs=tuple(
                replace(one, runs=1000 * n, run_seconds=1e-4 * n) for one in plain.programs
            ),
        )

    def _daemon(self) -> Daemon:
        n = self.scrapes
        figures = daemon_figures(
            restarts=n,
            cpu_seconds=0.01 * n,
            cost=Cost(0.01, 0.01, 0.03),
            all_steps=True,
            configuration_failed=True,
        )
        return Daemon(
            callers={"load_msg": 64.0, "probe_card [card]": 64.0},
            cgroups={of_path("/system.slice/sshd.service"): 64.0, named(IN_POD, NAMES): 64.0},
            figures=figures,
            up=self.up,
            age=0.25,
            scrape_seconds=0.01,
            errors={"timeout": n},
            connections=3,
            refused={"refused": n},
            authentication_failures=n,
            census_age=600.0,
            history=self.up,
        )
