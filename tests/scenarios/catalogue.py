# SPDX-License-Identifier: Apache-2.0
"""The scenarios by name. Every number in them is drawn by the seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.scenarios import fast, hard, innocent, leaks
from tests.scenarios.host import Rng
from tests.scenarios.scenario import Scenario


class Entry(NamedTuple):
    """A scenario by name, and one sentence about it; in how many seconds its leak is promised to be
    found (0: nothing is promised)."""

    name: str
    about: str
    make: Callable[[Rng], Scenario]
    promised: float = 0.0


ENTRIES = tuple(
    Entry(*entry)
    for entry in (
        (
            "slow leak",
            "8 to 200 MB/h at a site that allocates and frees up to 5,000 times as often",
            leaks.slow_leak,
        ),
        (
            "one a minute, exact",
            "one object a minute, cache tracked exactly",
            leaks.one_a_minute_exact,
        ),
        (
            "one a minute, sampled",
            "one small object a minute in a cache of its own, never sampled",
            leaks.one_a_minute_sampled,
        ),
        (
            "leak per open",
            "a character device that forgets to free, opened in bouts",
            leaks.leak_per_open,
        ),
        (
            "leak in batches",
            "hundreds of objects at once, every half to two minutes",
            leaks.leak_in_batches,
        ),
        ("leak from a moment on", "one to two quiet hours before", leaks.leak_from_a_moment),
        (
            "leak over a module",
            "twelve sites of one module, 0.4 to 1.2 MB/h each",
            leaks.leak_over_module,
        ),
        (
            "devm and rebind",
            "a parent device keeps four allocations of each rebind",
            leaks.devm_rebind,
        ),
        (
            "leak, frees unseen",
            "no free of the cache has an event; 30 % of its objects stay",
            leaks.unseen_frees_leak,
        ),
        ("leak over a reset", "slow leak; tracking begins again", leaks.leak_over_reset),
        ("leak with losses", "slow leak; an event a minute is lost", leaks.leak_with_losses),
        (
            "lockstep",
            "a socket with its file, inode and state, in bouts, shown as one finding",
            hard.lockstep,
        ),
        (
            "leak among RCU frees",
            "20 to 200 MB/h of kmalloc-256, where three sites free by kfree_rcu()",
            hard.rcu_neighbours_leak,
        ),
        ("nightly leak", "2 to 60 MB each night, for eleven days", hard.nightly),
        ("leak per suspend", "2 to 60 MB every one to four hours", hard.per_suspend),
        (
            "leak over a family",
            "twelve sites, 0.4 to 1.2 MB/h each, over kmalloc-rnd-NN",
            hard.thin_family,
        ),
        (
            "leak of a caller",
            "20 to 100 MB/h, through a helper whose other callers free in minutes",
            hard.through_a_helper,
        ),
        (
            "leak of a container",
            "twelve sites and caches, 0.4 to 1.2 MB/h each",
            hard.one_container,
        ),
        (
            "dentries not reclaimed",
            "they are kept while processes of their cgroup are killed for memory",
            hard.killed_for_dentries,
        ),
        (
            "lost sockets",
            "a server closes its connections, the kernel loses them",
            hard.lost_sockets,
        ),
        ("quiet", "the background alone", innocent.quiet),
        (
            "many sites",
            "1,200 more sites with few samples each: noise of sampling",
            innocent.many_sites,
        ),
        ("module lifetime", "allocations of a module that is loaded", innocent.module_lifetime),
        ("dentries and inodes", "linear growth that is reclaimable", innocent.reclaimable_growth),
        ("warm-up", "a cache that fills, time constant 2 to 25 minutes", innocent.warm_up),
        ("slow warm-up", "the same, 25 minutes to 2 hours", innocent.slow_warm_up),
        (
            "bounded cache",
            "fills at a constant pace for 3 to 20 minutes, then replaces",
            innocent.bounded_cache,
        ),
        (
            "daily cycle",
            "load that rises and falls with the day, over 60 hours",
            innocent.daily_cycle,
        ),
        (
            "periodic load",
            "a job every 5 to 60 minutes that frees all in the end",
            innocent.periodic_load,
        ),
        ("burst", "one to three bursts, some of which stay", innocent.burst),
        ("fragmentation", "slab memory grows, objects do not", innocent.fragmentation),
        ("counter reset", "tracking begins again while nothing leaks", innocent.counter_reset),
        (
            "lost frees",
            "5 to 50 % of a site's frees are lost, and counted as lost",
            innocent.lost_frees,
        ),
        ("frees unseen", "no free of the cache has an event, nothing leaks", innocent.unseen_frees),
        ("replacement", "balance of objects that live 30 minutes to 6 hours", innocent.replacement),
        ("rising load", "load that grows fivefold within 12 to 90 minutes", innocent.rising_load),
        ("RCU frees", "three sites of kmalloc-256 free by kfree_rcu()", hard.rcu_neighbours),
        (
            "connections",
            "0.3 to 3 a second, kept by a process for hours",
            hard.connections,
        ),
        (
            "rare job",
            "every two to eight hours; results replace earlier ones",
            hard.rare_job,
        ),
        ("boot", "services start for a quarter of an hour", innocent.boot),
    )
)

# Those that tracking.when = "auto" can be asked about: exact mode tracks from the start.
AUTO = tuple(entry for entry in ENTRIES if entry.make is not leaks.one_a_minute_exact)

# Worlds of minutes, scored by their early findings.
FAST = tuple(
    Entry(*entry)
    for entry in (
        ("4 MiB/s", "on a host of 4 to 64 GiB", fast.four_a_second, 300.0),
        ("1 % a minute", "1 to 4 % of memory a minute", fast.percent_a_minute, 120.0),
        ("small host", "512 MiB: 0.2 to 2 % of memory a minute", fast.small_host),
        ("within a day", "exhausts memory in 1 to 16 hours", fast.within_a_day),
        ("fast batches", "1 to 3 % a minute, in batches of seconds", fast.fast_batches),
        ("over caches", "1 to 3 % a minute over twelve caches", fast.over_caches),
        ("short ramp", "1 to 10 % a minute for 10 to 75 seconds, which stays", fast.short_ramp),
        (
            "start of a service",
            "fills 2 to 20 % of memory, time constant 15 to 400 seconds",
            fast.service_start,
        ),
        ("big find", "1 to 5 % a minute of dentries, inodes, labels", fast.big_find),
        ("builds", "jobs of minutes that free all in the end", fast.builds),
        ("rush", "load that rises within a minute to a higher level", fast.rush),
        ("restless", "large groups of objects come and go at random", fast.restless),
        ("young host", "services start, up for less than ten minutes", fast.young_host),
        ("small and quiet", "512 MiB, a service starts", fast.small_quiet),
    )
)
# What no observation of minutes can tell from the first group: how often it is named, and for how
# long, is reported beside the score.
UNDECIDABLE = (
    Entry(
        "long fill",
        "0.5 to 3 % of memory a minute at a constant pace, for 2 to 8 minutes",
        fast.long_fill,
    ),
)
