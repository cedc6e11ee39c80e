# SPDX-License-Identifier: Apache-2.0
"""Members of structs by offset, and the structs that caches are named after, from BTF."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from slabmon.base.arrays import I64
from slabmon.kernel.census.types import Types
from slabmon.kernel.probe.btf import Kind, Shape

# Caches whose names do not lead to the struct in them.
_NAMED_OTHERWISE: Mapping[str, str] = {
    "cred_jar": "cred",
    "eventpoll_epi": "epitem",
    "eventpoll_pwq": "eppoll_entry",
    "filp": "file",
    "key_jar": "key",
    "mnt_cache": "mount",
    "radix_tree_node": "xa_node",
    "skbuff_fclone_cache": "sk_buff_fclones",
    "skbuff_head_cache": "sk_buff",
    "sock_inode_cache": "socket_alloc",
}
# Rewritten names of a cache, tried in this order: its own first.
_SPELLINGS: Sequence[tuple[str, str]] = (
    (r"(.+)", r"\1"),
    (r"(.+)_cache", r"\1"),
    (r"(.+)_cache", r"\1_struct"),
    (r"(.+)_cache", r"\1_info"),
    (r"(.+)_ctx", r"\1_context"),
    (r"(.+)_(?:cachep|slab|jar)", r"\1"),
    (r"(.+_inode)_cache", r"\1_info"),
    (r"([^_]+)_inode", r"\1_inode"),
    (r"tw_sock_(.+?)(v6)?", r"\1\2_timewait_sock"),
    (r"request_sock_(.+?)(v6)?", r"\1\2_request_sock"),
    (r"([A-Z]+)v6", r"\g<1>6_sock"),
    (r"([A-Z]+)", r"\1_sock"),
    (r"[^_]+_(.+_.+)", r"\1"),
)
# Links embedded in all kinds of objects: what they point to is not of their type.
_LINKS = frozenset(
    (
        "callback_head",
        "hlist_bl_head",
        "hlist_bl_node",
        "hlist_head",
        "hlist_node",
        "hlist_nulls_head",
        "hlist_nulls_node",
        "list_head",
        "llist_head",
        "llist_node",
        "plist_node",
        "rb_node",
        "rb_root",
        "rhash_head",
        "timerqueue_node",
        "wait_queue_entry",
        "work_struct",
    )
)
_LINK_MEMBERS = frozenset(
    (
        "__rb_parent_color",
        "first",
        "next",
        "pprev",
        "prev",
        "rb_left",
        "rb_node",
        "rb_right",
    )
)
NO_LINK = -1
TABLE = 1 << 25  # with a struct's number: an array of pointers to it
# What the first word of a head points to, in elements.
_ELEMENTS: Mapping[str, str] = {
    "hlist_bl_head": "hlist_bl_node",
    "hlist_head": "hlist_node",
    "hlist_nulls_head": "hlist_nulls_node",
    "list_head": "list_head",
    "llist_head": "llist_node",
    "rb_root": "rb_node",
}
_MOST_WORDS = 4096
_MOST_ELEMENTS = 256
_MOST_NAMES = 3
_SMALL = 256  # bytes; smaller structs are parts, such as a name or a lock
_MOST_DEPTH = 12


class Slot(NamedTuple):
    """What one word of a struct is. `path` begins with the name of the struct, or of the one that
    makes up most of it: `inode.i_link` in a filesystem's inode. `target` is the struct pointed to,
    0 if none is known, `table` that to which the pointers of an array point which it points to.
    `function` says that it is a function. `link` is the offset of the list's or tree's link that
    the word belongs to, or NO_LINK, and `element` the struct by which elements are linked to it."""

    path: str
    pointer: bool
    target: int = 0
    function: bool = False
    link: int = NO_LINK
    number: bool = False
    table: int = 0
    element: str = ""

    @property
    def can_point(self) -> bool:
        """Whether it can hold an address: arrays of numbers, and small ones, hold other things."""
        return self.pointer or self.link != NO_LINK or self.number


class Tail(NamedTuple):
    """An array of no fixed length at the end of a struct: its name, where it begins, the bytes and
    type of an element; 0 bytes if elements do not begin at words."""

    path: str
    start: int
    bytes: int
    element: int


class _Place(NamedTuple):
    path: str
    offset: int = 0
    link: int = NO_LINK
    depth: int = 0
    element: str = ""


def label(slots: Sequence[Slot]) -> str:
    """Return the names of one word's members, without those inside a link."""
    paths = [_without_link(slot.path) if slot.link != NO_LINK else slot.path for slot in slots]
    public = [path for path in paths if "__" not in path] or paths
    return "|".join(list(dict.fromkeys(public))[:_MOST_NAMES])


class Structs:
    """Structs by BTF id: names, sizes, words."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._slots: dict[int, dict[int, list[Slot]]] = {}
        self._tails: dict[int, Tail | None] = {}
        self._containers: dict[tuple[int, int], tuple[I64, I64]] = {}

    def name(self, struct: int) -> str:
        """Return a struct's name."""
        return self._types.shape(struct).name

    def find(self, name: str) -> int:
        """Return the struct of this name, 0 if there is none."""
        return self._types.find(name)

    def size(self, struct: int) -> int:
        """Return sizeof(struct) in bytes."""
        return self._types.shape(struct).size

    def module(self, struct: int) -> str | None:
        """Return the module that a struct is of, None if it is the kernel's."""
        return self._types.module(struct)

    def offset(self, struct: int, path: str) -> int | None:
        """Return the byte offset of a member, which may be of a member's struct: `timer.function`;
        None if there is none."""
        name, _, rest = path.partition(".")
        for member, offset, type_id in self._types.members(struct) if struct else ():
            inner = self._types.shape(type_id).type_id
            if member and member != name:
                continue
            further = rest if member else path
            place = self.offset(inner, further) if further else 0
            if place is not None:
                return offset + place
        return None

    def is_link(self, struct: int) -> bool:
        """Return whether it is a list's or tree's link, which says nothing of its container."""
        return self.name(struct) in _LINKS

    def flexible(self, struct: int) -> bool:
        """Return whether it ends with an array of no fixed length."""
        return self.tail(struct) is not None

    def slots(self, struct: int) -> Mapping[int, Sequence[Slot]]:
        """Return what each word, by its offset in bytes, can be: more than one thing in unions. Of
        an array of no fixed length there is one element; `TABLE | struct` is one of pointers."""
        if struct not in self._slots:
            self._slots[struct] = slots = {}
            if struct & TABLE:
                target = struct & ~TABLE
                name = f"an array of pointers to struct {self.name(target)}"
                slots[0] = [Slot(name, pointer=True, target=target)]
            else:
                self._add(slots, struct, _Place(self.name(struct)))
                tail = self.tail(struct)
                if tail is not None and tail.bytes:
                    path = f"{self.name(struct)}.{tail.path}[]"
                    self._add(slots, tail.element, _Place(path, tail.start, depth=1))
        return self._slots[struct]

    def tail(self, struct: int) -> Tail | None:
        """Return the array of no fixed length that a struct ends with."""
        if struct & TABLE:
            return Tail("", 0, 8, 0)
        if struct not in self._tails:
            self._tails[struct] = self._find_tail(struct)
        return self._tails[struct]

    def _find_tail(self, struct: int) -> Tail | None:
        members = self._types.members(struct)
        if not members:
            return None
        name, offset, type_id = members[-1]
        last = self._types.shape(type_id)
        if last.kind in (Kind.STRUCT, Kind.UNION):
            inner = self._find_tail(last.type_id)
            if inner is None:
                return None
            path = f"{name}.{inner.path}".lstrip(".")
            return inner._replace(path=path, start=inner.start + offset)
        if last.kind is not Kind.ARRAY or last.length:
            return None
        size = self._types.shape(last.target).size
        return Tail(name, offset, size if size % 8 == offset % 8 == 0 else 0, last.target)

    def containers(self, struct: int, offset: int, most_bytes: int) -> Iterator[int]:
        """Yield the structs with names that have this one at a byte offset: those of up to
        `most_bytes`, and more than half of it, then smaller ones that end with an array of no fixed
        length."""
        numbers, sizes = self._all_containers(struct, offset)
        yield from numbers[(sizes <= most_bytes) & (2 * sizes > most_bytes)].tolist()
        smaller: list[int] = numbers[2 * sizes <= most_bytes].tolist()
        yield from filter(self.flexible, smaller)

    def begins_with(self, outer: int, inner: int) -> bool:
        """Return whether a struct begins with another one, however deep."""
        return bool((self._all_containers(inner, 0)[0] == outer).any())

    def beginnings(self, struct: int, offset: int) -> list[int]:
        """Return the structs that a struct begins with and that reach beyond an offset, shortest
        first, and itself. Links are left out."""
        found = [struct]
        while members := self._types.members(found[0]):
            inner = self._types.shape(members[0][2])
            if inner.kind is not Kind.STRUCT or inner.size <= offset or inner.name in _LINKS:
                break
            found.insert(0, inner.type_id)
        return [each for each in found if self.name(each)]

    def _all_containers(self, struct: int, offset: int) -> tuple[I64, I64]:
        if (struct, offset) not in self._containers:
            self._containers[struct, offset] = self._types.containers(struct, offset)
        return self._containers[struct, offset]

    def _add(self, slots: dict[int, list[Slot]], type_id: int, place: _Place) -> None:
        shape = self._types.shape(type_id)
        if place.depth > _MOST_DEPTH or len(slots) > _MOST_WORDS:
            return
        if shape.kind in (Kind.STRUCT, Kind.UNION):
            if shape.name in _LINKS:
                element = _ELEMENTS.get(shape.name, shape.name)
                place = place._replace(link=place.offset, element=element)
            for name, offset, member in self._types.members(shape.type_id):
                self._add(slots, member, self._inner(shape, place, name, offset, member))
        elif shape.kind is Kind.ARRAY and shape.length:
            size = shape.size // shape.length
            for number in range(min(shape.length, _MOST_ELEMENTS) if size else 0):
                inner = place._replace(
                    path=f"{place.path}[]",
                    offset=place.offset + number * size,
                    depth=place.depth + 1,
                )
                self._add(slots, shape.target, inner)
        else:
            slots.setdefault(place.offset & -8, []).append(self._slot(shape, place))

    def _inner(self, shape: Shape, place: _Place, name: str, offset: int, member: int) -> _Place:
        path = ".".join(filter(None, (place.path, name)))
        inner = self._types.shape(member)
        if inner.kind is Kind.STRUCT and inner.name and 2 * inner.size >= shape.size > _SMALL:
            path = inner.name
        return _Place(path, place.offset + offset, place.link, place.depth + 1, place.element)

    def _slot(self, shape: Shape, place: _Place) -> Slot:
        if shape.kind is not Kind.POINTER:
            number = shape.size == 8 and not place.path.endswith("[]")
            return Slot(
                place.path,
                pointer=False,
                link=place.link,
                number=number,
                element=place.element,
            )
        pointed = self._types.shape(shape.target)
        behind = self._types.shape(pointed.target) if pointed.kind is Kind.POINTER else None
        return Slot(
            place.path,
            pointer=True,
            target=pointed.type_id if pointed.kind is Kind.STRUCT else 0,
            function=pointed.kind is Kind.FUNCTION,
            link=place.link,
            element=place.element,
            table=behind.type_id if behind and behind.kind is Kind.STRUCT else 0,
        )

    def of_cache(self, name: str, object_size: int, slack: int = 8) -> int:
        """Return the struct that a cache is named after, 0 if there is none of its size, which may
        be up to `slack` bytes smaller."""
        for number, candidate in enumerate(spelled(name)):
            struct = self._types.find(candidate)
            if struct and self._fits(struct, object_size, slack, own_name=number == 0):
                return struct
        return 0

    def _fits(self, struct: int, object_size: int, slack: int, own_name: bool) -> bool:
        size = self.size(struct)
        if own_name or self.flexible(struct):
            # A last array can be cut short, or longer: kmem_cache.node[], pid.numbers[].
            return object_size < 2 * size and object_size > size - self._last_array(struct)
        return size <= object_size < size + slack

    def _last_array(self, struct: int) -> int:
        """Return the bytes of the array that a struct ends with, also that of its last member, such
        as the registers in task_struct.thread; 1 if there is none."""
        members = self._types.members(struct)
        last = self._types.shape(members[-1][2]) if members else None
        if last is not None and last.kind in (Kind.STRUCT, Kind.UNION):
            return self._last_array(last.type_id)
        return last.size if last and last.kind is Kind.ARRAY else 1


def spelled(name: str) -> list[str]:
    """Return the names that the struct in a cache of this name can have, likeliest first."""
    if name in _NAMED_OTHERWISE:
        return [_NAMED_OTHERWISE[name]]
    plain = re.sub(r"#\d+$", "", name)
    matches = ((re.fullmatch(pattern, plain), to) for pattern, to in _SPELLINGS)
    return [match.expand(to).lower() for match, to in matches if match]


def _without_link(path: str) -> str:
    parts = path.split(".")
    while len(parts) > 2 and parts[-1] in _LINK_MEMBERS:
        parts.pop()
    return ".".join(parts)
