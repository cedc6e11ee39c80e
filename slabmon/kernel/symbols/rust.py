# SPDX-License-Identifier: Apache-2.0
"""Names of Rust functions: the v0 mangling (https://doc.rust-lang.org/rustc/symbol-mangling/v0.html).

What is shown are paths and types without disambiguators, such as
`<rust_binder::Thread as kernel::ForeignOwnable>::from_foreign`.
"""

from __future__ import annotations

import re

PREFIX = "_R"
_SUFFIX = re.compile(r"\.(?:llvm|cold|constprop|isra|part)[.\w]*$")
_LONGEST = 4096  # of the result: back-references can repeat parts
_BASIC = {
    "a": "i8",
    "b": "bool",
    "c": "char",
    "d": "f64",
    "e": "str",
    "f": "f32",
    "h": "u8",
    "i": "isize",
    "j": "usize",
    "l": "i32",
    "m": "u32",
    "n": "i128",
    "o": "u128",
    "p": "_",
    "s": "i16",
    "t": "u16",
    "u": "()",
    "v": "...",
    "x": "i64",
    "y": "u64",
    "z": "!",
}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Unreadable(Exception):
    """The name is not mangled as this module knows."""


def demangled(name: str) -> str:
    """Return the path of a mangled Rust name; other names unchanged."""
    if not name.startswith(PREFIX):
        return name
    mangled = _SUFFIX.sub("", name)
    reader = _Reader(mangled[len(PREFIX) :])
    try:
        path = reader.path()
    except (_Unreadable, RecursionError):
        return name
    return path if len(path) <= _LONGEST else name


class _Reader:
    """A recursive-descent parser. Positions of back-references count from behind the prefix."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._steps = 0

    def _next(self) -> str:
        self._steps += 1
        if self._at >= len(self._text) or self._steps > _LONGEST:
            raise _Unreadable
        self._at += 1
        return self._text[self._at - 1]

    def _takes(self, letter: str) -> bool:
        if self._text[self._at : self._at + 1] != letter:
            return False
        self._at += 1
        return True

    def _base62(self) -> int:
        if self._takes("_"):
            return 0
        value = 0
        while not self._takes("_"):
            digit = _DIGITS.find(self._next())
            if digit < 0:
                raise _Unreadable
            value = value * 62 + digit
        return value + 1

    def _identifier(self) -> tuple[int, str]:
        """Return the disambiguator and the name."""
        number = self._base62() + 1 if self._takes("s") else 0
        encoded = self._takes("u")
        digits = ""
        while self._text[self._at : self._at + 1].isdigit() and digits != "0":
            digits += self._next()
        if not digits:
            raise _Unreadable
        self._takes("_")
        name = self._text[self._at : self._at + int(digits)]
        if len(name) != int(digits):
            raise _Unreadable
        self._at += len(name)
        return number, _unicode(name) if encoded else name

    def _again(self, start: int, parse: str) -> str:
        """Parse what a back-reference stands for."""
        at, self._at = self._at, start
        if start >= at - 1:
            raise _Unreadable
        text: str = getattr(self, parse)()
        self._at = at
        return text

    def path(self) -> str:
        """Return a path."""
        kind = self._next()
        if kind == "C":
            return self._identifier()[1]
        if kind == "N":
            space = self._next()
            parent = self.path()
            number, name = self._identifier()
            if space == "C":
                return f"{parent}::{{closure#{number}}}"
            if space == "S":
                return f"{parent}::{{shim:{name}#{number}}}"
            return f"{parent}::{name}" if name else parent
        if kind in "MX":
            self._impl_path()
            return self._as_trait(trait=kind == "X")
        if kind == "Y":
            return self._as_trait(trait=True)
        if kind == "I":
            return self._generic(self.path())
        if kind == "B":
            return self._again(self._base62(), "path")
        raise _Unreadable

    def _impl_path(self) -> None:
        if self._takes("s"):
            self._base62()
        self.path()

    def _as_trait(self, *, trait: bool) -> str:
        kind = self.type()
        return f"<{kind} as {self.path()}>" if trait else f"<{kind}>"

    def _generic(self, path: str) -> str:
        arguments = []
        while not self._takes("E"):
            if self._takes("L"):
                self._base62()
            elif self._takes("K"):
                arguments.append(self._constant())
            else:
                arguments.append(self.type())
        return f"{path}<{', '.join(arguments)}>" if arguments else path

    def _constant(self) -> str:
        if self._takes("B"):
            return self._again(self._base62(), "_constant")
        if self._takes("p"):
            return "_"
        kind = self._next()
        negative = self._takes("n")
        digits = ""
        while not self._takes("_"):
            digits += self._next()
        value = int(digits or "0", 16)
        if kind == "b":
            return "true" if value else "false"
        return f"-{value}" if negative else f"{value}"

    def type(self) -> str:
        """Return a type."""
        kind = self._next()
        if kind in _BASIC:
            return _BASIC[kind]
        if kind == "A":
            return f"[{self.type()}; {self._constant()}]"
        if kind == "S":
            return f"[{self.type()}]"
        if kind in "RQ":
            if self._takes("L"):
                self._base62()
            return ("&" if kind == "R" else "&mut ") + self.type()
        if kind in "PO":
            return ("*const " if kind == "P" else "*mut ") + self.type()
        if kind == "T":
            return f"({', '.join(self._types())})"
        if kind == "F":
            return self._function()
        if kind == "D":
            return self._object()
        if kind == "B":
            return self._again(self._base62(), "type")
        self._at -= 1
        return self.path()

    def _types(self) -> list[str]:
        types = []
        while not self._takes("E"):
            types.append(self.type())
        return types

    def _function(self) -> str:
        if self._takes("G"):
            self._base62()
        unsafe = "unsafe " if self._takes("U") else ""
        if self._takes("K") and not self._takes("C"):
            self._identifier()
        arguments = ", ".join(self._types())
        returned = self.type()
        return f"{unsafe}fn({arguments})" + (f" -> {returned}" if returned != "()" else "")

    def _object(self) -> str:
        if self._takes("G"):
            self._base62()
        traits = []
        while not self._takes("E"):
            trait = self.path()
            while self._takes("p"):
                name = self._identifier()[1]
                trait = f"{trait}<{name} = {self.type()}>"
            traits.append(trait)
        if self._takes("L"):
            self._base62()
        return f"dyn {' + '.join(traits)}"


def _unicode(name: str) -> str:
    """Return an identifier in Punycode, whose delimiter is an underscore here."""
    plain, _, rest = name.rpartition("_")
    try:
        return f"{plain}-{rest}".removeprefix("-").encode("ascii").decode("punycode")
    except UnicodeError:
        raise _Unreadable from None
