# SPDX-License-Identifier: Apache-2.0
"""The messages of pprof's profile.proto (github.com/google/pprof, proto/profile.proto).

Built from a table when they are needed: no generated code, which would be tied to a version of
the protobuf runtime.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, message_factory

_PACKAGE = "perftools.profiles"
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
}
# Field number, name and type of what is written; * is repeated.
_MESSAGES = {
    "Profile": (
        (1, "sample_type", "ValueType*"),
        (2, "sample", "Sample*"),
        (3, "mapping", "Mapping*"),
        (4, "location", "Location*"),
        (5, "function", "Function*"),
        (6, "string_table", "string*"),
        (9, "time_nanos", "int64"),
        (10, "duration_nanos", "int64"),
        (11, "period_type", "ValueType"),
        (12, "period", "int64"),
        (13, "comment", "int64*"),
        (14, "default_sample_type", "int64"),
    ),
    "ValueType": ((1, "type", "int64"), (2, "unit", "int64")),
    "Sample": ((1, "location_id", "uint64*"), (2, "value", "int64*"), (3, "label", "Label*")),
    "Label": (
        (1, "key", "int64"),
        (2, "str", "int64"),
        (3, "num", "int64"),
        (4, "num_unit", "int64"),
    ),
    "Mapping": ((1, "id", "uint64"), (5, "filename", "int64"), (7, "has_functions", "bool")),
    "Location": (
        (1, "id", "uint64"),
        (2, "mapping_id", "uint64"),
        (3, "address", "uint64"),
        (4, "line", "Line*"),
    ),
    "Line": ((1, "function_id", "uint64"), (2, "line", "int64")),
    "Function": (
        (1, "id", "uint64"),
        (2, "name", "int64"),
        (3, "system_name", "int64"),
        (4, "filename", "int64"),
    ),
}


def profile_class() -> Any:
    """The class of the message Profile."""
    file = descriptor_pb2.FileDescriptorProto(
        name="slabmon/profile.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            plain = kind.removesuffix("*")
            added = message.field.add(
                name=field,
                number=number,
                type=_TYPES.get(plain, _Field.TYPE_MESSAGE),
                label=_Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL,
            )
            if plain not in _TYPES:
                added.type_name = f".{_PACKAGE}.{plain}"
    # The one way in that Debian's protobuf 3.21 has as well.
    return message_factory.GetMessages([file])[f"{_PACKAGE}.Profile"]
