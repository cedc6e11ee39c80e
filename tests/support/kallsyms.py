# SPDX-License-Identifier: Apache-2.0
"""A kernel's symbol files in a temporary folder, with modules that come and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slabmon.kernel.symbols.kallsyms import ModuleHistory, Symbols

CORE = 0xFFFFFFFF81000000
MODULE = 0xFFFFFFFFC0000000
CORE_LINES = (
    (CORE, "T", "_stext"),
    (CORE, "T", "_text"),
    (CORE + 0x10, "T", "__kmalloc_noprof"),
    (CORE + 0x80, "t", "local_helper"),
    (CORE + 0x80, "T", "canonical_alias_too"),
    (CORE + 0x100, "W", "weak_function"),
    (CORE + 0x200, "T", "_etext"),
    (CORE + 0x1000, "D", "vmemmap_base"),
    (CORE + 0x1008, "d", "page_offset_base"),
    (CORE + 0x1010, "B", "jiffies"),
)
Functions = Sequence[tuple[int, str]]


class Host:
    """/proc/kallsyms and /proc/modules as files."""

    def __init__(self, folder: Path, hidden: bool = False) -> None:
        self._folder = folder
        self.hidden = hidden
        self.modules: dict[str, tuple[int, int, Functions]] = {}
        self.extra = ""
        self.write()

    def load(self, name: str, base: int, functions: Functions, size: int = 0x1000) -> None:
        """Load a module. Functions are offsets into it, and names."""
        self.modules[name] = base, size, functions
        self.write()

    def unload(self, name: str) -> None:
        del self.modules[name]
        self.write()

    def hide(self) -> None:
        """Set kernel.kptr_restrict to 2."""
        self.hidden = True
        self.write()

    def _address(self, address: int) -> str:
        return f"{0 if self.hidden else address:016x}"

    def write(self) -> None:
        lines = [f"{self._address(a)} {kind} {name}" for a, kind, name in CORE_LINES]
        for module, (base, _, functions) in self.modules.items():
            lines += [f"{self._address(base + o)} t {name}\t[{module}]" for o, name in functions]
            lines.append(f"{self._address(base + 0x800)} d page_offset_base\t[{module}]")
        text = "".join(line + "\n" for line in lines) + self.extra
        (self._folder / "kallsyms").write_text(text)
        (self._folder / "modules").write_text(
            "".join(
                f"{name} {size} 0 - Live 0x{self._address(base)}\n"
                for name, (base, size, _) in self.modules.items()
            )
        )

    def symbols(self, history: ModuleHistory | None = None) -> Symbols:
        return Symbols(self._folder / "kallsyms", self._folder / "modules", history)


def drivers(host: Host, bases: Mapping[str, int]) -> None:
    """Load modules with one function each, called <module>_probe, at the base."""
    for name, base in bases.items():
        host.load(name, base, [(0, f"{name}_probe")])
