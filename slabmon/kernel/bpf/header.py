# SPDX-License-Identifier: Apache-2.0
"""Integers and loss reasons of bpf/layout.h. No numpy here: settings are read without it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from slabmon.kernel.bpf.sources import BPF_DIR

_DEFINE = re.compile(r"^#define (\w+) +(\d+)\b", re.M)
_LOSS = re.compile(r"\bLOSS\((\w+), (\w+)\)")
_COMMENT = re.compile(r"/\*.*?\*/", re.S)


def strip_comments(text: str) -> str:
    """Return C source text without its comments."""
    return _COMMENT.sub("", text)


def parse_constants(text: str) -> dict[str, int]:
    """Return the integer macros of a header without comments."""
    return {name: int(value) for name, value in _DEFINE.findall(text)}


def parse_losses(text: str) -> dict[str, str]:
    """Return loss reasons with their classes, both in lower case, by ascending index."""
    return {name.lower(): loss_class.lower() for loss_class, name in _LOSS.findall(text)}


TEXT = strip_comments((BPF_DIR / "layout.h").read_text("utf-8"))
CONSTANTS: Mapping[str, int] = parse_constants(TEXT)
# Reasons as they appear in `losses` and slabmon_lost_events_total; the n-th is counted in
# lane_head.lost[n].
LOSSES: Mapping[str, str] = parse_losses(TEXT)
