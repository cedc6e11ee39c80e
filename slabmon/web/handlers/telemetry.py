# SPDX-License-Identifier: Apache-2.0
"""Metrics, health and readiness."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition as openmetrics1

from slabmon.export import openmetrics2
from slabmon.export.prometheus import Exposition, Families
from slabmon.web.feeds.readings import Now
from slabmon.web.handlers.base import TEXT, Handler

# Clients also negotiate versions and escaping, which has no effect on names as plain as these. At
# most three formats are rendered, whatever Accept says.
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_1 = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPENMETRICS_2 = "application/openmetrics-text; version=2.0.0; charset=utf-8"
_ENCODERS: dict[str, Callable[[Families], bytes]] = {
    _PROMETHEUS: generate_latest,
    _OPENMETRICS_1: openmetrics1.generate_latest,
    _OPENMETRICS_2: openmetrics2.generate_latest,
}


def negotiate(accept: str) -> str:
    """Return the content type of metrics that an Accept header prefers."""
    preferred = choose_encoder(accept)[1]
    if not preferred.startswith("application/openmetrics-text"):
        return _PROMETHEUS
    return _OPENMETRICS_2 if "version=2" in preferred else _OPENMETRICS_1


def encode(content_type: str, families: Families) -> bytes:
    """Return families as one of the content types that negotiate() returns."""
    return _ENCODERS[content_type](families)


class MetricsHandler(Handler):
    """Metrics as Prometheus text or OpenMetrics, as the Accept header prefers.

    There is always an answer: with an old reading, or none, slabmon_up is 0.
    """

    async def get(self, *_: str) -> None:
        """Render the current reading, once for all clients that share it."""
        now = await self.context.source.now()
        content_type = negotiate(self.request.headers.get("Accept", ""))

        def render(now: Now) -> bytes:
            snapshot = now.reading.snapshot if now.reading else None
            families = self.context.exporter.families(
                snapshot,
                self.context.daemon(now),
                self.context.live.assessment(),
                Exposition.of(content_type),
                now.census,
            )
            return encode(content_type, families)

        await self.send(self.context.metrics.body(content_type, now, render))


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
