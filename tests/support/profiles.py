# SPDX-License-Identifier: Apache-2.0
"""Decodes profiles with a library that has nothing to do with their encoder."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated

from pure_protobuf.annotations import Field
from pure_protobuf.message import BaseMessage

# github.com/google/pprof, proto/profile.proto. All its numbers are varints in two's complement.


@dataclass
class ValueType(BaseMessage):
    type: Annotated[int, Field(1)] = 0
    unit: Annotated[int, Field(2)] = 0


@dataclass
class Label(BaseMessage):
    key: Annotated[int, Field(1)] = 0
    str: Annotated[int, Field(2)] = 0


@dataclass
class Sample(BaseMessage):
    location_id: Annotated[list[int], Field(1)] = field(default_factory=list)
    value: Annotated[list[int], Field(2)] = field(default_factory=list)
    label: Annotated[list[Label], Field(3)] = field(default_factory=list)


@dataclass
class Mapping(BaseMessage):
    id: Annotated[int, Field(1)] = 0
    filename: Annotated[int, Field(5)] = 0
    has_functions: Annotated[bool, Field(7)] = False


@dataclass
class Line(BaseMessage):
    function_id: Annotated[int, Field(1)] = 0


@dataclass
class Location(BaseMessage):
    id: Annotated[int, Field(1)] = 0
    mapping_id: Annotated[int, Field(2)] = 0
    address: Annotated[int, Field(3)] = 0
    line: Annotated[list[Line], Field(4)] = field(default_factory=list)


@dataclass
class Function(BaseMessage):
    id: Annotated[int, Field(1)] = 0
    name: Annotated[int, Field(2)] = 0


@dataclass
class Profile(BaseMessage):
    sample_type: Annotated[list[ValueType], Field(1)] = field(default_factory=list)
    sample: Annotated[list[Sample], Field(2)] = field(default_factory=list)
    mapping: Annotated[list[Mapping], Field(3)] = field(default_factory=list)
    location: Annotated[list[Location], Field(4)] = field(default_factory=list)
    function: Annotated[list[Function], Field(5)] = field(default_factory=list)
    string_table: Annotated[list[str], Field(6)] = field(default_factory=list)
    time_nanos: Annotated[int, Field(9)] = 0
    duration_nanos: Annotated[int, Field(10)] = 0
    period_type: Annotated[ValueType, Field(11)] = field(default_factory=ValueType)
    period: Annotated[int, Field(12)] = 0
    default_sample_type: Annotated[int, Field(14)] = 0


class Read:
    """A profile by name instead of by number."""

    def __init__(self, data: bytes) -> None:
        self.profile = Profile.read_from(BytesIO(gzip.decompress(data)))
        text = self.profile.string_table
        names = {f.id: text[f.name] for f in self.profile.function}
        modules = {m.id: text[m.filename] for m in self.profile.mapping}
        self.values = [(text[v.type], text[v.unit]) for v in self.profile.sample_type]
        self.modules = {
            names[place.line[0].function_id]: modules[place.mapping_id]
            for place in self.profile.location
        }
        places = {place.id: names[place.line[0].function_id] for place in self.profile.location}
        self.samples = [
            (
                tuple(places[number] for number in sample.location_id),
                tuple(sample.value),
                {text[label.key]: text[label.str] for label in sample.label},
            )
            for sample in self.profile.sample
        ]

    def totals(self, label: str, position: int) -> dict[str, int]:
        found: Counter[str] = Counter()
        for _, values, labels in self.samples:
            found[labels.get(label, "")] += values[position]
        return {name: total for name, total in found.items() if total}
