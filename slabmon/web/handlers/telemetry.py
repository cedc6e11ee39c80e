# SPDX-License-Identifier: Apache-2.0
"""Metrics, health and readiness."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder

from slabmon.export.prometheus import Exposition
from slabmon.web.feeds.readings import Now
from slabmon.web.handlers.base import TEXT, Handler


class MetricsHandler(Handler):
    """Metrics as Prometheus text or OpenMetrics, as the Accept header prefers.

    There is always an answer: with an old reading, or none, slabmon_up is 0.
    """

    async def get(self, *_: str) -> None:
        """Render the current reading, once for all clients that share it."""
        now = await self.context.source.now()
        encoder, content_type = choose_encoder(self.request.headers.get("Accept", ""))

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
    """200 while this process answers at all."""

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
