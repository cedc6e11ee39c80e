# SPDX-License-Identifier: Apache-2.0
"""YAML as configuration needs it: plain data, no aliases, no key twice."""

from __future__ import annotations

from typing import Any

import yaml


class NotYaml(ValueError):
    """Says what is wrong, and where."""


class _Loader(yaml.SafeLoader):
    """Plain data: no aliases, whose expansion knows no bounds, and no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.YAMLError(f"{key} is given twice")
        return super().construct_mapping(node, deep)


def parse_yaml(data: bytes) -> Any:
    """The document; NotYaml if it is none, or more than plain data."""
    try:
        return yaml.load(data, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise NotYaml(str(error)) from error
