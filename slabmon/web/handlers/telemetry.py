# SPDX-License-Identifier: Apache-2.0
"""Metrics, health and readiness."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from slabmon.export.prometheus import Exposition
from slabmon.web.feeds.readings import Now
from slabmon.web.handlers.base import TEXT, Handler

# Clients negotiate versions and escaping too, without effect on names as plain as ours. Two formats
# are rendered at most, whatever Accept says.
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class MetricsHandler(Handler):
    """Metrics as Prometheus text or OpenMetrics, as the Accept header prefers.

    There is always an answer: with an old reading, or none, slabmon_up is 0.
    """

    async def get(self, *_: str) -> None:
        """Render the current reading, once for all clients that share it."""
        now = await self.context.source.now()
        negotiated = choose_encoder(self.request.headers.get("Accept", ""))[1]
        openmetrics = negotiated.startswith("application/openmetrics-text")
        encoder = generate_openmetrics if openmetrics else generate_latest
        content_type = _OPENMETRICS if openmetrics else _PROMETHEUS

        def render(now: Now) -> bytes:
            snapshot = now.reading.snapshot if now.reading else None
            return encoder(
                self.context.exporter.families(
                    snapshot,
                    self.context.daemon(now),
                    self.context.live.assessment(),
                    Exposition.of(content_type),
                )
            )

        await self.send(self.context.renderer.body(content_type, now, render))


class HealthHandler(Handler):
    """200 while this process answers at all. Needs no password: a probe has none."""

    PUBLIC = True

    async def get(self, *_: str) -> None:
        """Answer at once: nothing is read."""
        self.set_header("Content-Type", TEXT)
        self.finish("ok\n")


class ReadyHandler(Handler):
    """200 while the kernel's tables can be read in time, else 503 and the reason."""

    async def get(self, *_: str) -> None:
        """Wait for a reading."""
        now = await self.context.source.now()
        if now.problem:
            self.problem(503, now.problem)
            return
        self.set_header("Content-Type", TEXT)
        self.finish("ready\n")
