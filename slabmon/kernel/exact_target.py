# SPDX-License-Identifier: Apache-2.0
"""What a filter of exact mode selects on this host. A filter that can match nothing is an error."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from slabmon.base.errors import UsageError
from slabmon.base.names import cache_family, kernel_name, near_names, with_near_names
from slabmon.kernel.bpf.header import CONSTANTS
from slabmon.kernel.exact_filter import Filter
from slabmon.kernel.probe.cgroups import Cgroups
from slabmon.kernel.probe.facts import HIDDEN_SYMBOLS
from slabmon.kernel.probe.slabinfo import SlabDirectory
from slabmon.kernel.symbols.kallsyms import Symbols
from slabmon.model import LARGE_CACHE

MAX_CACHES = CONSTANTS["MAX_EXACT_CACHES"]
# A module's text, and its init text while that runs: [start, end) each.
Text = tuple[tuple[int, int], ...]
_PROC, _MODULES = Path("/proc"), Path("/lib/modules")
# A name this much like a known one is taken for a mistake rather than for a module to come.
_MISTAKE = 0.85


class ModuleNotLoadedError(UsageError):
    """The module of a filter is not loaded now, but can be."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a filter selects, as the kernel names it.

    `caches` are names of kmem_caches (empty: any), of which LARGE_CACHE stands for page-backed
    kmalloc. `cgroup` is the id of the cgroup `level` steps below the root of its hierarchy (0:
    any). `pid` is a thread group (0: any).
    """

    caches: tuple[str, ...] = ()
    cgroup: int = 0
    level: int = 0
    pid: int = 0


EVERYTHING = Target()


def find_target(
    exact: Filter | None,
    cgroups: Cgroups,
    directory: SlabDirectory | None = None,
    proc: Path = _PROC,
) -> Target:
    """Return what a filter selects now. Raises UsageError, with near names, if a cache, cgroup or
    process does not exist, or if no object of the caches is as large as `min_size`."""
    if exact is None:
        return EVERYTHING
    cgroup, level = cgroups.find_at(exact.cgroup) if exact.cgroup else (0, 0)
    if exact.pid:
        _check_process(exact.pid, proc)
    caches: tuple[str, ...] = ()
    if exact.cache or exact.family:
        directory = directory or SlabDirectory()
        directory.refresh()
        caches = _caches(exact, directory)
        _check_size(exact, caches, directory)
    return Target(caches=caches, cgroup=cgroup, level=level, pid=exact.pid or 0)


def _caches(exact: Filter, directory: SlabDirectory) -> tuple[str, ...]:
    """Return the names that the selected kmem_caches may have in the kernel.

    A merged cache has the name of whichever came first, so that all names of it are candidates; no
    other cache can have one of them.
    """
    names = directory.names
    if not names:  # sysfs is hidden: nothing can be checked
        return (kernel_name(exact.cache or exact.family or ""),)
    known = {*names, LARGE_CACHE}
    if exact.cache:
        wanted = exact.cache if exact.cache in known else kernel_name(exact.cache)
        matches = {wanted} & known
        problem = f"cache={exact.cache}: no such cache"
        others: set[str] = known
    else:
        matches = {name for name in known if cache_family(name) == exact.family}
        problem = f"family={exact.family}: no such family of caches"
        others = {cache_family(name) for name in known}
    if not matches:
        wanted = exact.cache or exact.family or ""
        raise UsageError(
            with_near_names(problem, wanted, others, "ls /sys/kernel/slab lists all names")
        )
    matches |= {alias for name in matches for alias in directory.aliases.get(name, ())}
    if len(matches) > MAX_CACHES:
        raise UsageError(
            f"{problem.partition(':')[0]}: expected at most {MAX_CACHES} names of caches, got "
            f"{len(matches)}; filter by site or size instead"
        )
    return tuple(sorted(matches))


def _check_size(exact: Filter, caches: tuple[str, ...], directory: SlabDirectory) -> None:
    if not exact.min_size or LARGE_CACHE in caches or not directory.names:
        return
    largest = max(directory.nature(name, 0).object_size for name in caches)
    if 0 < largest < exact.min_size:
        name = exact.cache or exact.family
        raise UsageError(
            f"min_size={exact.min_size}: objects of {name} have at most {largest} bytes; nothing "
            "can match"
        )


def _check_process(pid: int, proc: Path) -> None:
    try:
        status = (proc / str(pid) / "status").read_text("utf-8", "replace")
    except OSError:
        raise UsageError(f"pid={pid}: no such process; ps -e lists all") from None
    group = next(line.split()[1] for line in status.splitlines() if line.startswith("Tgid:"))
    if int(group) != pid:
        raise UsageError(
            f"pid={pid}: expected a process, got one of its threads; use pid={group} for the "
            "process with all its threads"
        )


def filtered_text(exact: Filter | None, symbols: Symbols) -> Text:
    """Return the kernel text of a filter's site or module; () without either.

    Raises UsageError if the kernel has no such function or hides addresses, and
    ModuleNotLoadedError if the module is not loaded.
    """
    if exact and (exact.module or exact.site) and not symbols.readable:
        wanted = f"module={exact.module}" if exact.module else f"site={exact.site}"
        raise UsageError(
            f"{wanted}: expected the address of its code, but {HIDDEN_SYMBOLS}, or filter by "
            "cache, size, process or cgroup"
        )
    if exact and exact.module:
        loaded = symbols.module_ranges(_plain(exact.module))
        if not loaded:
            raise ModuleNotLoadedError(f"filter: module {exact.module!r} is not loaded; see lsmod")
        return loaded[:2]
    if not exact or not exact.site:
        return ()
    name, whole = exact.function, "+" not in exact.site
    ranges = symbols.function_ranges(name, exact.site_module)
    if not ranges:
        raise UsageError(
            with_near_names(
                f"site={exact.site}: no kernel function is called {name!r}",
                name,
                symbols.similar(name),
                "the sites view of a snapshot and /proc/kallsyms list names",
            )
        )
    if whole and len(ranges) > 1:
        names = ", ".join(f"{name}#{number}" for number in range(1, len(ranges) + 1))
        raise UsageError(
            f"site={name}: expected one function, got {len(ranges)}; use one of {names}"
        )
    if whole:
        return (ranges[0],)
    try:
        start = ranges[0][0] + int(exact.offset.partition("/")[0], 0)
    except ValueError:
        raise UsageError(f"filter: site {exact.site!r}: expected SYMBOL or SYMBOL+OFFSET") from None
    return ((start, start + 1),)


def check_module(name: str, symbols: Symbols, folder: Path | None = None) -> None:
    """Raise UsageError if the module can never be loaded, or if its name looks mistyped.

    `folder` is that of the running kernel's modules. Modules can be loaded from elsewhere too, so
    a name that is neither loaded nor installed is a mistake only if it is much like one that is.
    """
    folder = folder or _MODULES / platform.release()
    installed = _listed(folder / "modules.dep")
    if _plain(name) in _listed(folder / "modules.builtin"):
        raise UsageError(
            f"module={name}: it is built into the kernel; use site=FUNCTION for a function of it"
        )
    if not symbols.has_modules:
        raise UsageError(f"module={name}: this kernel has no loadable modules")
    known = installed | symbols.loaded_modules()
    if _plain(name) in known:
        return
    import difflib

    if difflib.get_close_matches(_plain(name), known, 1, _MISTAKE):
        near = ", ".join(near_names(_plain(name), known))
        raise UsageError(f"module={name}: no such module; near names: {near}")


def _plain(name: str) -> str:
    """Return a module's name as the kernel has it: file names may have hyphens."""
    return name.replace("-", "_")


def _listed(path: Path) -> set[str]:
    """Return the modules that an index of depmod lists; none if it cannot be read."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    files = (os.path.basename(line.partition(":")[0]) for line in lines)
    return {_plain(file.partition(".ko")[0]) for file in files}
