# SPDX-License-Identifier: Apache-2.0
"""Read BTF: offsets of struct members, prototypes of typedefs and functions, enums.

Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h. Only types that are asked for are
decoded; the rest of the section (over 100,000 types) is walked once.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slabmon.base.arrays import I64, contained

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = range(9, 16)
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(16, 20)
_MODIFIERS = (_VOLATILE, _CONST, _RESTRICT, _TYPE_TAG, _TYPEDEF)

# Bytes that follow struct btf_type: (fixed, per element of vlen).
_EXTRA = {
    _INT: (4, 0),
    _PTR: (0, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FWD: (0, 0),
    _TYPEDEF: (0, 0),
    _VOLATILE: (0, 0),
    _CONST: (0, 0),
    _RESTRICT: (0, 0),
    _FUNC: (0, 0),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _FLOAT: (0, 0),
    _DECL_TAG: (4, 0),
    _TYPE_TAG: (0, 0),
    _ENUM64: (0, 12),
}
_MAX_DEPTH = 32
_NAMED_KINDS = {"struct": _STRUCT, "typedef": _TYPEDEF, "func": _FUNC, "enum": _ENUM}


class BtfError(ValueError):
    """The BTF data cannot be read."""


@dataclass(frozen=True)
class Member:
    """A struct member: byte offset in the struct, and the BTF id of its type."""

    offset: int
    type_id: int


@dataclass(frozen=True)
class Function:
    """A kernel function: BTF id, type of what it returns, types of its parameters."""

    btf_id: int
    returns: str
    parameters: tuple[str, ...]


class Kind(StrEnum):
    """What a type is behind its modifiers and typedefs, as far as memory shows it."""

    POINTER = "pointer"
    STRUCT = "struct"
    UNION = "union"
    ARRAY = "array"
    FUNCTION = "function"
    OTHER = "other"


class Shape(NamedTuple):
    """A type behind its modifiers and typedefs. `size` is in bytes. `target` is the type that a
    pointer points to, or that of an array's elements, of which it has `length`; 0 is void."""

    type_id: int
    kind: Kind
    name: str
    size: int
    target: int = 0
    length: int = 0


_SHAPES = {
    _PTR: Kind.POINTER,
    _STRUCT: Kind.STRUCT,
    _UNION: Kind.UNION,
    _ARRAY: Kind.ARRAY,
    _FUNC_PROTO: Kind.FUNCTION,
}
_VOID = Shape(0, Kind.OTHER, "void", 0)


class Btf:
    """Types of one BTF blob by kind and name. Damaged data raises BtfError.

    A module's types go on from those of the kernel, its `base` ("split BTF"): of a module, shape(),
    members() and structs can be asked.
    """

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        try:
            magic, _, _, header, type_off, type_len, str_off, str_len = struct.unpack_from(
                "<HBBIIIII", data
            )
        except struct.error as error:
            raise BtfError("BTF header is cut short") from error
        if magic != 0xEB9F:
            raise BtfError("not BTF data")
        self._data = data
        self._strings = data[header + str_off : header + str_off + str_len]
        self._base = base
        self._first = 1 if base is None else len(base._offsets)
        self._first_string = 0 if base is None else len(base._strings)
        self._offsets: array[int] = self._index(header + type_off, header + type_off + type_len)
        words = np.frombuffer(data, "<u4", len(data) // 4)
        # All of BTF is aligned to 4 bytes. Type 0 is void and has no record.
        where = np.frombuffer(self._offsets, "L").astype(np.int64) // 4
        self._names = words[where]
        self._kinds = words[where + 1] >> 24 & 31
        self._names[: self._first] = self._kinds[: self._first] = 0
        self._ids: dict[tuple[int, str], int] = {}

    def _index(self, position: int, end: int) -> array[int]:
        """Return the offset of each type by id, as an array: a list of integers takes ten times
        the memory."""
        offsets = array("L", [0]) * self._first
        append = offsets.append
        unpack = struct.Struct("<I").unpack_from
        data = self._data
        fixed = [0] * 32
        per = [0] * 32
        for kind, (first, each) in _EXTRA.items():
            fixed[kind], per[kind] = first + 12, each
        try:
            while position < end:
                append(position)
                (info,) = unpack(data, position + 4)
                kind = info >> 24 & 31
                if not fixed[kind]:
                    raise BtfError(f"BTF kind {kind} is not known")
                position += fixed[kind] + per[kind] * (info & 0xFFFF)
        except struct.error as error:
            raise BtfError("BTF types are cut short") from error
        return offsets

    def _unpack(self, layout: str, position: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(layout, self._data, position)
        except struct.error as error:
            raise BtfError("BTF types are cut short") from error

    def _type(self, type_id: int) -> tuple[int, int, int, int]:
        """Return name offset, kind, vlen and size-or-type of a type."""
        if self._base is not None and type_id < self._first:
            return self._base._type(type_id)
        if not 0 < type_id < len(self._offsets):
            raise BtfError(f"BTF type {type_id} does not exist")
        name, info, size = self._unpack("<III", self._offsets[type_id])
        return name, info >> 24 & 31, info & 0xFFFF, size

    def _name(self, offset: int) -> str:
        if self._base is not None and offset < self._first_string:
            return self._base._name(offset)
        offset -= self._first_string
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise BtfError(f"BTF string {offset} does not exist")
        return self._strings[offset:end].decode("utf-8", "backslashreplace")

    def load(self, **names_by_kind: Iterable[str]) -> None:
        """Find types by kind (struct, typedef, func, enum) and name in one pass."""
        by_offset: dict[int, str] = {}
        keys: set[tuple[int, int]] = set()
        for kind_name, names in names_by_kind.items():
            for name in names:
                offset = self._strings.find(b"\0" + name.encode() + b"\0") + 1
                while offset:
                    by_offset[offset] = name
                    keys.add((_NAMED_KINDS[kind_name], offset))
                    offset = self._strings.find(b"\0" + name.encode() + b"\0", offset) + 1
        wanted = np.array(list(by_offset), np.int64)
        for type_id in np.flatnonzero(contained(self._names, wanted)).tolist():
            name_offset, kind = int(self._names[type_id]), int(self._kinds[type_id])
            if (kind, name_offset) in keys:
                self._ids.setdefault((kind, by_offset[name_offset]), type_id)

    def find(self, kind: str, name: str) -> int | None:
        """Return the id of a type that load() found, or None."""
        return self._ids.get((_NAMED_KINDS[kind], name))

    def size(self, struct_name: str) -> int | None:
        """Return sizeof(struct) in bytes, or None."""
        type_id = self.find("struct", struct_name)
        return None if type_id is None else self._type(type_id)[3]

    def _members(self, type_id: int, depth: int = 0) -> Iterable[tuple[str, int, int]]:
        """Yield name, type id and offset in bits of each member, also of anonymous members'."""
        if depth > _MAX_DEPTH:
            raise BtfError("BTF types contain themselves")
        _, kind, vlen, _ = self._type(type_id)
        if kind not in (_STRUCT, _UNION):
            return
        flagged = self._unpack("<I", self._offsets[type_id] + 4)[0] >> 31
        position = self._offsets[type_id] + 12
        for _ in range(vlen):
            name, member, offset = self._unpack("<III", position)
            position += 12
            bits = offset & 0xFFFFFF if flagged else offset
            if name:
                yield self._name(name), member, bits
            else:
                for inner, inner_type, inner_offset in self._members(
                    self._strip(member), depth + 1
                ):
                    yield inner, inner_type, bits + inner_offset

    def _strip(self, type_id: int) -> int:
        """Return the type behind const, volatile, restrict, type tags and typedefs."""
        for _ in range(_MAX_DEPTH):
            if not type_id or self._type(type_id)[1] not in _MODIFIERS:
                return type_id
            type_id = self._type(type_id)[3]
        raise BtfError("BTF types refer to themselves")

    @property
    def count(self) -> int:
        """The number of types, void and those of the base included."""
        return len(self._offsets)

    @cached_property
    def structs(self) -> Mapping[str, int]:
        """The ids of all structs by name."""
        ids = np.flatnonzero((self._kinds == _STRUCT) & (self._names != 0))
        found: dict[str, int] = {}
        for type_id, name in zip(ids.tolist(), self._names[ids].tolist(), strict=True):
            found.setdefault(self._name(name), type_id)
        return found

    def shape(self, type_id: int) -> Shape:
        """Return what a type is behind its modifiers. A struct that is only declared here is that
        of the same name, where there is one."""
        type_id = self._strip(type_id)
        if not type_id:
            return _VOID
        if self._base is not None and type_id < self._first:
            return self._base.shape(type_id)
        name_offset, number, _, size = self._type(type_id)
        name = self._name(name_offset)
        if number == _FWD:
            defined = self.structs.get(name) or (self._base and self._base.structs.get(name))
            return self.shape(defined) if defined else Shape(type_id, Kind.OTHER, name, 0)
        kind = _SHAPES.get(number, Kind.OTHER)
        if kind is Kind.POINTER:
            return Shape(type_id, kind, name, 8, size)
        if kind is Kind.ARRAY:
            element, _, count = self._unpack("<III", self._offsets[type_id] + 12)
            return Shape(type_id, kind, name, count * self.shape(element).size, element, count)
        return Shape(type_id, kind, name, 0 if kind is Kind.FUNCTION else size)

    def members(self, type_id: int) -> list[tuple[str, int, int]]:
        """Return name, byte offset and type id of each member of a struct or union. Anonymous ones
        have the name ""; bit fields are left out."""
        if self._base is not None and type_id < self._first:
            return self._base.members(type_id)
        _, kind, count, _ = self._type(type_id)
        if kind not in (_STRUCT, _UNION):
            return []
        start = self._offsets[type_id]
        flagged = self._unpack("<I", start + 4)[0] >> 31
        words = self._unpack(f"<{3 * count}I", start + 12)
        result = []
        for name, member, place in zip(words[::3], words[1::3], words[2::3], strict=True):
            if flagged and place >> 24:
                continue
            offset = (place & 0xFFFFFF if flagged else place) // 8
            result.append((self._name(name) if name else "", offset, member))
        return result

    @cached_property
    def _targets(self) -> tuple[I64, I64]:
        """The kind of each type and the word behind it, a size or another type, by id."""
        own = np.frombuffer(self._offsets, "L").astype(np.int64)[self._first :] // 4
        words = np.frombuffer(self._data, "<u4", len(self._data) // 4)
        kinds, targets = (
            (np.zeros(1, np.int64), np.zeros(1, np.int64))
            if self._base is None
            else self._base._targets
        )
        kinds = np.concatenate([kinds, self._kinds[self._first :].astype(np.int64)])
        return kinds, np.concatenate([targets, words[own + 2].astype(np.int64)])

    def named_structs(self) -> tuple[I64, I64]:
        """Return the ids and sizes in bytes of structs with names, those of the base left out."""
        kinds, targets = self._targets
        ids = np.flatnonzero((kinds == _STRUCT) & (self._names != 0))
        return ids, targets[ids]

    def embeddings(self) -> tuple[I64, I64, I64]:
        """Return the members that are structs or unions themselves, those of the base left out: the
        id of what contains it, the byte offset in it, its own id. Arrays are left out."""
        kinds, targets = self._targets
        words = np.frombuffer(self._data, "<u4", len(self._data) // 4)
        ids = np.flatnonzero((kinds == _STRUCT) | (kinds == _UNION))
        ids = ids[ids >= self._first]
        place = np.frombuffer(self._offsets, "L").astype(np.int64)[ids] // 4
        info = words[place + 1].astype(np.int64)
        counts = info & 0xFFFF
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        row = np.repeat(place + 3, counts) + 3 * number
        member = words[row + 1].astype(np.int64)
        for _ in range(_MAX_DEPTH):
            behind = contained(kinds[member], np.array(_MODIFIERS, kinds.dtype))
            if not behind.any():
                break
            member[behind] = targets[member[behind]]
        offset = words[row + 2].astype(np.int64)
        offset &= np.where(np.repeat(info >> 31, counts) == 1, 0xFFFFFF, 0xFFFFFFFF)
        inside = np.flatnonzero((kinds[member] == _STRUCT) | (kinds[member] == _UNION))
        return np.repeat(ids, counts)[inside], offset[inside] // 8, member[inside]

    def member(self, struct_name: str, path: str) -> Member | None:
        """Return a member, or None if there is none.

        `path` may lead through embedded structs ("kobj.name") and array elements ("mem[0].base").
        """
        type_id = self.find("struct", struct_name)
        offset = 0
        for part in path.split("."):
            if type_id is None:
                return None
            name, _, index = part.partition("[")
            for member, member_type, bits in self._members(self._strip(type_id)):
                if member == name:
                    type_id, offset = member_type, offset + bits // 8
                    break
            else:
                return None
            if index:
                array = self._strip(type_id)
                element = self._unpack("<I", self._offsets[array] + 12)[0]
                type_id = element
                offset += int(index.rstrip("]")) * self._type(self._strip(element))[3]
        return None if type_id is None else Member(offset, type_id)

    def bit(self, struct_name: str, name: str) -> int | None:
        """Return the offset of a member in bits, which of bit fields need not be one of bytes, or
        None."""
        type_id = self.find("struct", struct_name)
        if type_id is None:
            return None
        return next((bits for member, _, bits in self._members(type_id) if member == name), None)

    def offset(self, struct_name: str, *paths: str) -> int | None:
        """Return the byte offset of the first of these members that exists, or None."""
        for path in paths:
            member = self.member(struct_name, path)
            if member is not None:
                return member.offset
        return None

    def member_size(self, struct_name: str, path: str) -> int | None:
        """Return the size of an integer or struct member in bytes, or None."""
        member = self.member(struct_name, path)
        return None if member is None else self._type(self._strip(member.type_id))[3]

    def variables(self, section: str) -> Mapping[str, int]:
        """Return the offset of each variable in a section, such as ".data..percpu", by name; {} if
        there is no such section."""
        for type_id in np.flatnonzero(self._kinds == _DATASEC).tolist():
            name, _, count, _ = self._type(type_id)
            if self._name(name) != section:
                continue
            words = self._unpack(f"<{3 * count}I", self._offsets[type_id] + 12)
            return {
                self._name(self._type(variable)[0]): offset
                for variable, offset in zip(words[::3], words[1::3], strict=True)
            }
        return {}

    def prototype(self, typedef: str) -> list[str] | None:
        """Return the parameter types of a function-pointer typedef, or None.

        They read `size_t` or `struct kmem_cache *`; const is left out.
        """
        type_id = self.find("typedef", typedef)
        if type_id is None:
            return None
        pointer = self._type(type_id)[3]
        return self._parameters(self._type(pointer)[3])

    def function(self, name: str) -> Function | None:
        """Return a function of the kernel, or None if BTF does not describe it."""
        type_id = self.find("func", name)
        if type_id is None:
            return None
        proto = self._type(type_id)[3]
        parameters = self._parameters(proto)
        if parameters is None:
            return None
        return Function(type_id, self._spell(self._type(proto)[3]), tuple(parameters))

    def _parameters(self, proto: int) -> list[str] | None:
        _, kind, vlen, _ = self._type(proto)
        if kind != _FUNC_PROTO:
            return None
        position = self._offsets[proto] + 12
        return [self._spell(self._unpack("<II", position + 8 * i)[1]) for i in range(vlen)]

    def _spell(self, type_id: int, depth: int = 0) -> str:
        if depth > _MAX_DEPTH:
            raise BtfError("BTF types refer to themselves")
        if not type_id:
            return "void"
        name, kind, _, target = self._type(type_id)
        if kind == _PTR:
            return f"{self._spell(target, depth + 1)} *"
        if kind in (_CONST, _VOLATILE, _RESTRICT, _TYPE_TAG):
            return self._spell(target, depth + 1)
        prefix = {_STRUCT: "struct ", _UNION: "union ", _ENUM: "enum "}.get(kind, "")
        return prefix + self._name(name)

    def enum_values(self, member: str) -> dict[str, int]:
        """Return all values of the enum that has this enumerator; {} if there is none."""
        offset = self._strings.find(b"\0" + member.encode() + b"\0") + 1
        if not offset:
            return {}
        for type_id in np.flatnonzero(self._kinds == _ENUM).tolist():
            position = self._offsets[type_id]
            info = self._unpack("<I", position + 4)[0]
            values = [self._unpack("<Ii", position + 12 + 8 * i) for i in range(info & 0xFFFF)]
            if any(name == offset for name, _ in values):
                return {self._name(name): value for name, value in values}
        return {}


def read_vmlinux(path: Path = VMLINUX) -> Btf | None:
    """Return the BTF of the running kernel, or None if it has none."""
    try:
        return Btf(path.read_bytes())
    except FileNotFoundError:
        return None
