# SPDX-License-Identifier: Apache-2.0
"""YAML of plain data, whose size bounds the work to read it."""

from __future__ import annotations

from typing import Any

import yaml

from slabmon.base.errors import UsageError
from slabmon.base.escape import escape


class _PlainLoader(yaml.SafeLoader):
    """Plain data only: no aliases, whose expansion is unbounded, and no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse duplicate keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.YAMLError(f"duplicate key {key}")
        return super().construct_mapping(node, deep)


def read_yaml(data: bytes) -> Any:
    """Return what a YAML text says. Raises UsageError if it is none, or no plain data."""
    try:
        return yaml.load(data, _PlainLoader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = escape(" ".join(str(error).split()).encode("utf-8", "backslashreplace"))
        raise UsageError(f"not valid YAML: {reason}") from error
