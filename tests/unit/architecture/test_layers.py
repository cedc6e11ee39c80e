# SPDX-License-Identifier: Apache-2.0
"""The direction of imports: a module imports from layers below its own, never from above.

All imports count, those inside functions and under TYPE_CHECKING too: what a module knows of
another is a dependency, whenever it is loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "slabmon"
# From the ground up. Packages of one layer do not import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("slabmon.base",),
    ("slabmon.memory",),
    ("slabmon.census.model",),
    ("slabmon.runtime", "slabmon.model"),
    ("slabmon.analysis", "slabmon.census"),
    ("slabmon.store", "slabmon.kernel", "slabmon.leaks"),
    ("slabmon.views", "slabmon.state"),
    ("slabmon.export",),
    ("slabmon.sources",),
    ("slabmon.bench", "slabmon.report", "slabmon.tui", "slabmon.web"),
    ("slabmon.daemon",),
    ("slabmon.cli",),
    ("slabmon.__main__",),
)
# The floors of slabmon.kernel, from the ground up, in the same sense.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("programs",),
    ("bpf",),
    ("probe",),
    ("symbols",),
    ("memory",),
    ("exact_filter",),
    ("exact_target",),
    ("settings",),
    ("planning",),
    ("loading",),
    ("census",),
    ("tables", "devres"),
    ("served",),
    ("levels", "failures"),
    ("session_state",),
    ("tracker",),
    ("session", "wake_sources"),
    ("examine",),
)
# A library that one part of the tree alone may import.
CONFINED = {
    "bcc": ("slabmon.kernel.loading.compile_child",),
    "textual": ("slabmon.tui",),
    "tornado": ("slabmon.web", "slabmon.report.page"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def layer(module: str, layers: tuple[tuple[str, ...], ...]) -> tuple[int, str]:
    """The number of a module's layer, and the package that stands in it."""
    for number, packages in enumerate(layers):
        for package in packages:
            if within(module, package):
                return number, package
    raise AssertionError(f"{module} stands in no layer; give it one in {Path(__file__).name}")


def wrong(module: str, path: Path, layers: tuple[tuple[str, ...], ...], root: str) -> list[str]:
    own, package = layer(module, layers)
    found = []
    for imported in imports(path):
        if not within(imported, root) or imported == root:
            continue
        other, target = layer(imported, layers)
        if other > own or (other == own and target != package):
            found.append(f"{module} imports {imported}")
    return found


def test_imports_point_downwards() -> None:
    found = [
        line
        for module, path in MODULES.items()
        if module != "slabmon"
        for line in wrong(module, path, LAYERS, "slabmon")
    ]
    assert found == []


def test_the_floors_of_the_kernel_package_are_in_order() -> None:
    floors = tuple(tuple(f"slabmon.kernel.{name}" for name in floor) for floor in FLOORS)
    found = [
        line
        for module, path in MODULES.items()
        if module.startswith("slabmon.kernel.")
        for line in wrong(module, path, floors, "slabmon.kernel")
    ]
    assert found == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {
        module: {name for name in imports(path) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }
    # What is imported by no remaining module, and imports none, is in no circle.
    while True:
        targets = {name for names in arrows.values() for name in names}
        loose = [name for name, names in arrows.items() if not names or name not in targets]
        if not loose:
            break
        for name in loose:
            del arrows[name]
        arrows = {name: names & arrows.keys() for name, names in arrows.items()}
    assert sorted(arrows) == []


@pytest.mark.parametrize("library", CONFINED)
def test_a_library_stays_in_its_part_of_the_tree(library: str) -> None:
    found = {
        module
        for module, path in MODULES.items()
        if any(within(name, library) for name in imports(path))
    }
    assert found, f"nothing imports {library}"
    assert all(any(within(module, part) for part in CONFINED[library]) for module in found), found


def test_few_modules_lie_loose() -> None:
    loose = {path.stem for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__", "__main__", "model"}
