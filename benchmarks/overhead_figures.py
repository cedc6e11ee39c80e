# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/overhead.md, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_LABEL, _BAR, _ROW = 190, 420, 24
_WIDE, _HIGH, _MARGIN = 340, 200, 48
_COLOURS = ("#2b6cb0", "#c05621")


def measured(bench: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the modes and peers under the first workload that have figures."""
    modes = [(m["mode"], m) for m in bench["workloads"][0]["modes"] if "added_ns" in m]
    return modes + [(p["name"], p) for p in bench["peers"] if "added_ns" in p]


def bars(bench: Mapping[str, Any]) -> str:
    """Draw the medians on a logarithmic scale from 100 ns, with their quartiles."""
    rows = measured(bench)

    def x(nanoseconds: float) -> float:
        return _LABEL + max(0.0, math.log10(max(nanoseconds, 1) / 100)) / 2 * _BAR

    height = (len(rows) + 2) * _ROW
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LABEL + _BAR + 70} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        "<title>Nanoseconds added to a kmalloc and kfree pair</title>",
        f'<rect width="{_LABEL + _BAR + 70}" height="{height}" fill="#fff"/>',
    ]
    for tick in (100, 300, 1000, 3000, 10000):
        out.append(f'<path d="M{x(tick):.0f} 8V{height - 30}" stroke="#ddd"/>')
        out.append(
            f'<text x="{x(tick):.0f}" y="{height - 12}" text-anchor="middle" fill="#555">'
            f"{tick:,} ns</text>"
        )
    modes = {mode["mode"] for mode in bench["workloads"][0]["modes"]}
    for number, (name, row) in enumerate(rows):
        y, spread = 12 + number * _ROW, row["added_ns"]
        end = x(spread["median"])
        colour = "#2b6cb0" if name in modes else "#a0aec0"
        out.append(f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        out.append(
            f'<rect x="{_LABEL}" y="{y}" width="{end - _LABEL:.0f}" height="16" fill="{colour}"/>'
        )
        out.append(
            f'<path d="M{x(spread["low"]):.0f} {y + 8}H{x(spread["high"]):.0f}" stroke="#000"/>'
        )
        out.append(
            f'<text x="{max(end, x(spread["high"])) + 6:.0f}" y="{y + 13}">'
            f"{spread['median']:,.0f}</text>"
        )
    return "\n".join([*out, "</svg>"]) + "\n"


def curves(found: Mapping[str, Any]) -> str:
    """Draw CPU time of a snapshot against CPUs, and of a scrape against call sites, linearly."""
    sizes = sorted({host["objects"] for host in found["hosts"]})
    snapshots = {
        f"{objects:,} tracked objects": [
            (h["cpus"], h["snapshot_ms"]) for h in found["hosts"] if h["objects"] == objects
        ]
        for objects in sizes
    }
    scrapes = {"": sorted((s["sites"], s["ms"]) for s in found["scrapes"])}
    width = 2 * (_WIDE + _MARGIN) + 24
    return (
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HIGH + 92}" '
                'font-family="sans-serif" font-size="13" role="img">',
                "<title>Milliseconds of CPU time against the size of the host</title>",
                f'<rect width="{width}" height="{_HIGH + 92}" fill="#fff"/>',
                *_plot(_MARGIN, "snapshot, ms, by CPUs", snapshots),
                *_plot(_WIDE + 2 * _MARGIN, "scrape, ms, by call sites", scrapes),
                "</svg>",
            ]
        )
        + "\n"
    )


def _plot(left: int, title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Draw lines; the axes begin at 0 and end at the largest values."""
    points = [point for line in lines.values() for point in line]
    widest, highest = max(x for x, _ in points), max(y for _, y in points)
    top, bottom, length = 32, 32 + _HIGH, _WIDE - 40

    def position(x: float, y: float) -> str:
        return f"{left + x / widest * length:.0f} {bottom - y / highest * _HIGH:.0f}"

    out = [
        f'<text x="{left}" y="18">{escape(title)}</text>',
        f'<path d="M{left} {top}V{bottom}H{left + length}" fill="none" stroke="#555"/>',
        f'<text x="{left - 6}" y="{top + 5}" text-anchor="end" fill="#555">{highest:,.0f}</text>',
        f'<text x="{left + length}" y="{bottom + 18}" text-anchor="middle" fill="#555">'
        f"{widest:,}</text>",
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number]
        path = "L".join(position(*point) for point in line)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in line:
            x, y = position(*point).split()
            out.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        if name:
            out.append(
                f'<text x="{left}" y="{bottom + 36 + 18 * number}" fill="{colour}">'
                f"{escape(name)}</text>"
            )
    return out
