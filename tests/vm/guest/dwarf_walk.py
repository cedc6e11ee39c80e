# SPDX-License-Identifier: Apache-2.0
"""Which struct begins at an address, as the kernel's DWARF declares it: a walk with drgn.

It begins with all variables of the kernel whose type DWARF knows and follows every pointer to a
struct, and the lists of LISTS. What is in one of these lists, or is a kobject or device that its
type or bus tells apart (CONTAINERS), is `known`. A pointer says less than it seems to, as a struct
can begin with another one, a pnp_dev with a device: what only pointers lead to is `pointed`.
Modules' structs are not in the kernel's DWARF.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.vm.guest.dwarf_facts import CONTAINERS, LISTS

if TYPE_CHECKING:
    import drgn
    from drgn import Type, TypeKind
else:
    import pytest

    drgn = pytest.importorskip("drgn", reason="drgn has no package for this architecture")
    from drgn import TypeKind

SHORTER = ("kmem_cache.node",)  # as many as there are NUMA nodes (mm/slub.c: kmem_cache_init())
PER_CPU = ("cpu_worker_pools",)
KTHREAD = 0x00200000  # PF_KTHREAD (include/linux/sched.h): task_struct.worker_private is a kthread
MOST_OF_A_STRUCT, MOST_IN_A_LIST, MOST_ELEMENTS = 4000, 4000, 256
KERNEL, ERRORS = 0xFF00000000000000, 2**64 - 4095  # from there on: include/linux/err.h
DATA = frozenset("bBdDrR")


class Member(NamedTuple):
    """A member of a struct: its path from there, its offset in bytes, and its type."""

    path: str
    offset: int
    type: Type


@dataclass
class Shape:
    """What of a struct leads on: pointers to structs, heads of lists with the element and its link,
    structs inside."""

    name: str
    size: int
    pointers: list[tuple[int, Type]] = field(default_factory=list)
    heads: list[tuple[int, str]] = field(default_factory=list)
    parts: list[tuple[int, Type]] = field(default_factory=list)
    containers: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def leads_on(self) -> bool:
        """Whether anything can be found from it."""
        return bool(self.pointers or self.heads or self.parts or self.containers)


def plain(type_: Type) -> Type:
    """Return a type without names of it and qualifiers."""
    while type_.kind == TypeKind.TYPEDEF:
        type_ = type_.type
    return type_


class Walk:
    """Places of structs, and what each object is said to be."""

    def __init__(self, program: drgn.Program) -> None:
        self.known: dict[int, set[str]] = defaultdict(set)
        self.pointed: dict[int, set[str]] = defaultdict(set)
        self.counts: Counter[str] = Counter()
        self._program = program
        self._shapes: dict[tuple[str, int], Shape] = {}
        self._types: dict[str, Type | None] = {}
        self._seen: set[tuple[int, str]] = set()
        self._left: list[tuple[int, Type]] = []
        self._symbols: dict[str, list[int]] = defaultdict(list)

    def run(self) -> None:
        """Follow everything from the kernel's variables on."""
        for line in Path("/proc/kallsyms").read_text().splitlines():
            address, kind, name, *module = line.split()
            if not module:
                self._symbols[name].append(int(address, 16))
                if kind in DATA:
                    self._add_variable(name, int(address, 16))
        for name in PER_CPU:
            self._add_per_cpu(name)
        while self._left:
            self._visit(*self._left.pop())

    def struct_of(
        self, address: int, fits: Callable[[str], bool], longer: Callable[[str], bool]
    ) -> str | None:
        """Return the struct of the object that begins here, None if that is not certain. `fits`
        says whether a struct would be allocated in the size of the object, `longer` whether another
        one that would begins with it."""
        if address in self.known:
            return self._longest(self.known[address])
        pointed = self._longest({each for each in self.pointed.get(address, ()) if fits(each)})
        return pointed if pointed and not longer(pointed) else None

    def _longest(self, names: set[str]) -> str | None:
        """Return the struct that begins with all of these, None if none of them does."""
        for name in names:
            if all(self._begins(name, other) for other in names):
                return name
        return None

    def _begins(self, outer: str, inner: str) -> bool:
        """Return whether a struct is another, or begins with it."""
        type_ = self._struct(outer)
        while type_ is not None and type_.kind == TypeKind.STRUCT and type_.tag != inner:
            type_ = plain(type_.members[0].type) if type_.members else None
        return type_ is not None and type_.kind == TypeKind.STRUCT

    def _add_variable(self, name: str, address: int) -> None:
        try:
            variable = self._program.variable(name)
        except (LookupError, drgn.BadDataError):  # a constant of a form that drgn does not know
            return
        if variable.address_ == address:
            self._add_value(address, variable.type_)
            if name in LISTS:
                self._follow_list(address, LISTS[name])

    def _add_per_cpu(self, name: str) -> None:
        from drgn.helpers.linux.cpumask import for_each_possible_cpu
        from drgn.helpers.linux.percpu import per_cpu

        for cpu in for_each_possible_cpu(self._program):
            variable = per_cpu(self._program[name], cpu)
            self._add_value(variable.address_, variable.type_)

    def _add_value(self, address: int, type_: Type) -> None:
        """Add what a variable is, or points to."""
        for offset, each in self._elements(Member("", 0, type_)):
            if each.kind == TypeKind.STRUCT:
                self._left.append((address + offset, each))
            elif each.kind == TypeKind.POINTER and plain(each.type).kind == TypeKind.STRUCT:
                self._add_pointer(self._word(address + offset), plain(each.type))

    def _add_pointer(self, address: int, type_: Type) -> None:
        if not KERNEL <= address < ERRORS or not type_.tag:
            return
        if not type_.is_complete():
            found = self._struct(type_.tag)
            if found is None:
                return
            type_ = found
        self.pointed[address].add(type_.tag)
        self._left.append((address, type_))

    def _struct(self, name: str) -> Type | None:
        if name not in self._types:
            try:
                found: Type | None = self._program.type(f"struct {name}")
            except LookupError:
                found = None
            self._types[name] = found if found is not None and found.is_complete() else None
        return self._types[name]

    def _elements(self, member: Member, most: int = MOST_ELEMENTS) -> Iterator[tuple[int, Type]]:
        """Yield offset and type of a member, or of the elements of an array."""
        type_ = plain(member.type)
        if type_.kind == TypeKind.ARRAY:
            inner = plain(type_.type)
            length = min(type_.length or 0, most) if inner.is_complete() else 0
            size = drgn.sizeof(inner) if length else 0
            for number in range(length):
                yield from self._elements(Member("", member.offset + number * size, inner))
        else:
            yield member.offset, type_

    def _shape(self, type_: Type) -> Shape:
        key = type_.tag or "", type_.size or 0
        if key not in self._shapes:
            self._shapes[key] = shape = Shape(*key)
            for member in type_.members or ():
                if not member.bit_field_size:
                    self._add_member(shape, Member(member.name or "", member.offset, member.type))
            self._add_containers(shape, type_)
        return self._shapes[key]

    def _add_member(self, shape: Shape, member: Member) -> None:
        most = 1 if f"{shape.name}.{member.path}" in SHORTER else MOST_ELEMENTS
        for offset, each in self._elements(member, most):
            if each.kind == TypeKind.POINTER:
                target = plain(each.type)
                if target.kind == TypeKind.STRUCT and target.tag:
                    shape.pointers.append((offset, target))
            elif each.kind == TypeKind.STRUCT:
                head = f"{shape.name}.{member.path}"
                if head in LISTS:
                    shape.heads.append((offset, LISTS[head]))
                elif each.tag not in ("list_head", "hlist_head", "hlist_node", "rb_node"):
                    self._add_part(shape, member.path, offset, each)

    def _add_part(self, shape: Shape, path: str, offset: int, type_: Type) -> None:
        """Take a struct inside as a place of its own, one without a name as part of this one, and
        look for heads of lists that are named from here."""
        for member in type_.members or ():
            name = f"{shape.name}.{path}.{member.name}"
            if name in LISTS:
                shape.heads.append((offset + member.offset, LISTS[name]))
        if type_.tag:
            if self._shape(type_).leads_on:
                shape.parts.append((offset, type_))
            return
        for member in type_.members or ():
            if not member.bit_field_size:
                inner = Member(member.name or "", offset + member.offset, member.type)
                self._add_member(shape, inner)

    def _add_containers(self, shape: Shape, type_: Type) -> None:
        for member, symbol, container in CONTAINERS.get(shape.name, ()):
            found = [each for each in type_.members or () if each.name == member]
            for address in self._symbols.get(symbol, ()):
                shape.containers.append((found[0].offset, address, container))

    def _word(self, address: int) -> int:
        try:
            return int(self._program.read_u64(address))
        except drgn.FaultError:
            return 0

    def _visit(self, address: int, type_: Type) -> None:
        key = address, type_.tag or ""
        shape = self._shape(type_)
        if not shape.leads_on or key in self._seen or self.counts[key[1]] >= MOST_OF_A_STRUCT:
            return
        self._seen.add(key)
        self.counts[key[1]] += 1
        for offset, part in shape.parts:
            self._left.append((address + offset, part))
        if not (shape.pointers or shape.heads or shape.containers):
            return
        try:
            data = self._program.read(address, shape.size)
        except drgn.FaultError:
            return
        for offset, target in shape.pointers:
            self._add_pointer(_word(data, offset), target)
        for offset, element in shape.heads:
            self._follow_list(address + offset, element)
        for offset, value, container in shape.containers:
            if _word(data, offset) == value:
                self._add_known(address, container)
                break
        if shape.name == "task_struct":
            self._add_kthread(address, type_)

    def _add_known(self, address: int, member: str) -> None:
        """Add the struct that has this member at the address."""
        name, _, path = member.partition(".")
        type_ = self._struct(name)
        if type_ is not None:
            address -= drgn.offsetof(type_, path) if path else 0
            if not path or name not in CONTAINERS:  # else it can be a part of another one
                self.known[address].add(name)
            self._left.append((address, type_))

    def _add_kthread(self, address: int, type_: Type) -> None:
        task = drgn.Object(self._program, type_, address=address)
        if task.flags & KTHREAD and task.worker_private:
            self._add_known(task.worker_private.value_(), "kthread")

    def _follow_list(self, head: int, element: str) -> None:
        """Follow a list_head, or an hlist_head, whose list ends with 0."""
        at = self._word(head)
        for _ in range(MOST_IN_A_LIST):
            if at == head or not KERNEL <= at < ERRORS:
                return
            self._add_known(at, element)
            at = self._word(at)


def _word(data: bytes, offset: int) -> int:
    word: int = struct.unpack_from("<Q", data, offset)[0]
    return word
