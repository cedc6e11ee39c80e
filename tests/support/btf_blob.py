# SPDX-License-Identifier: Apache-2.0
"""Build BTF data (Documentation/bpf/btf.rst). Types are numbered from 1 as they are added."""

from __future__ import annotations

import struct
from collections.abc import Sequence

VOID = 0
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST = range(1, 11)
_FUNC, _FUNC_PROTO, _VAR, _DATASEC = 12, 13, 14, 15
# Name, type id, and the raw offset word: bits, or bits | width << 24 with kind_flag.
Field = tuple[str, int, int]


class Blob:
    """Types and strings of one BTF section. Those of a module go on from its base."""

    def __init__(self, base: Blob | None = None) -> None:
        self._types = b""
        self._strings = b"\0"
        self._count: int = base._count if base else 0
        self._first_string = len(base._strings) if base else 0

    def _string(self, name: str) -> int:
        if not name:
            return 0
        offset = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        if not offset:
            offset = len(self._strings)
            self._strings += name.encode() + b"\0"
        return self._first_string + offset

    def add(
        self, kind: int, name: str, vlen: int, size: int, extra: bytes = b"", flag: bool = False
    ) -> int:
        """Add a type of any kind and return its id."""
        info = flag << 31 | kind << 24 | vlen
        self._types += struct.pack("<III", self._string(name), info, size) + extra
        self._count += 1
        return self._count

    @property
    def next_id(self) -> int:
        """Return the id of the next type."""
        return self._count + 1

    def integer(self, name: str, size: int) -> int:
        return self.add(_INT, name, 0, size, struct.pack("<I", size * 8))

    def pointer(self, target: int) -> int:
        return self.add(_PTR, "", 0, target)

    def const(self, target: int) -> int:
        return self.add(_CONST, "", 0, target)

    def volatile(self, target: int) -> int:
        return self.add(_VOLATILE, "", 0, target)

    def typedef(self, name: str, target: int) -> int:
        return self.add(_TYPEDEF, name, 0, target)

    def function(self, name: str, proto: int) -> int:
        return self.add(_FUNC, name, 0, proto)

    def section(self, name: str, variables: dict[str, tuple[int, int]]) -> int:
        """Add variables, each with its type and offset, and the section that they are in."""
        ids = {
            variable: self.add(_VAR, variable, 0, type_id, struct.pack("<I", 1))
            for variable, (type_id, _) in variables.items()
        }
        places = b"".join(
            struct.pack("<III", ids[variable], offset, 8)
            for variable, (_, offset) in variables.items()
        )
        return self.add(_DATASEC, name, len(variables), 1 << 16, places)

    def array(self, element: int, count: int) -> int:
        return self.add(_ARRAY, "", 0, 0, struct.pack("<III", element, 0, count))

    def struct(
        self,
        name: str,
        size: int,
        fields: Sequence[Field],
        *,
        union: bool = False,
        bitfields: bool = False,
    ) -> int:
        """Add a struct or union. Offsets of fields are raw words (bits)."""
        extra = b"".join(
            struct.pack("<III", self._string(field), type_id, word)
            for field, type_id, word in fields
        )
        kind = _UNION if union else _STRUCT
        return self.add(kind, name, len(fields), size, extra, bitfields)

    def enum(self, name: str, values: dict[str, int]) -> int:
        extra = b"".join(
            struct.pack("<II", self._string(key), value & 0xFFFFFFFF)
            for key, value in values.items()
        )
        return self.add(_ENUM, name, len(values), 4, extra)

    def prototype(self, parameters: Sequence[int], returns: int = VOID) -> int:
        extra = b"".join(struct.pack("<II", 0, type_id) for type_id in parameters)
        return self.add(_FUNC_PROTO, "", len(parameters), returns, extra)

    def tracepoint(self, event: str, parameters: Sequence[int]) -> int:
        """Add typedef void (*btf_trace_<event>)(void *, parameters...)."""
        data = self.pointer(VOID)
        proto = self.prototype([data, *parameters])
        return self.typedef(f"btf_trace_{event}", self.pointer(proto))

    def build(self) -> bytes:
        """Return the whole section with its header."""
        header = struct.pack(
            "<HBBIIIII",
            0xEB9F,
            1,
            0,
            24,
            0,
            len(self._types),
            len(self._types),
            len(self._strings),
        )
        return header + self._types + self._strings
