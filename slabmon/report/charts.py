# SPDX-License-Identifier: Apache-2.0
"""Small line charts as SVG, without style attributes, so that a strict Content-Security-Policy
allows them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _PAD = 260, 56, 3


def line_chart(times: Sequence[float], values: Sequence[float], title: str) -> str:
    """Return a chart of values over ascending times. The axis begins at 0, or at the lowest
    value if that is negative. `title` is read by screen readers."""
    low, high = min(0.0, *values), max(1.0, *values)
    span = max(times[-1] - times[0], 1e-9)
    points = [
        (
            _PAD + (time - times[0]) / span * (_WIDTH - 2 * _PAD),
            _HEIGHT - _PAD - (value - low) / (high - low) * (_HEIGHT - 2 * _PAD),
        )
        for time, value in zip(times, values, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    base = _HEIGHT - _PAD - (0 - low) / (high - low) * (_HEIGHT - 2 * _PAD)
    area = f"{points[0][0]:.1f},{base:.1f} {line} {points[-1][0]:.1f},{base:.1f}"
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<title>{escape(title)}</title><polygon points="{area}"/><polyline points="{line}"/>'
        f'<circle cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="2.5"/></svg>'
    )
