# SPDX-License-Identifier: Apache-2.0
"""Metrics, health and readiness."""

from __future__ import annotations

from functools import partial

from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from slabmon.export.prometheus import Exposition
from slabmon.web.feeds.readings import Now
from slabmon.web.handlers.base import TEXT, Handler

# Clients also negotiate versions and escaping, which has no effect on names as plain as these. At
# most three formats are rendered, whatever Accept says; OpenMetrics 2.0 has native histograms.
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = {
    version: f"application/openmetrics-text; version={version}; charset=utf-8"
    for version in ("1.0.0", "2.0.0")
}


class MetricsHandler(Handler):
    """Metrics as Prometheus text or OpenMetrics, as the Accept header prefers.

    There is always an answer: with an old reading, or none, slabmon_up is 0.
    """

    async def get(self, *_: str) -> None:
        """Render the current reading, once for all clients that share it."""
        now = await self.context.source.now()
        negotiated = choose_encoder(self.request.headers.get("Accept", ""))[1]
        encoder, content_type = generate_latest, _PROMETHEUS
        if negotiated.startswith("application/openmetrics-text"):
            version = "2.0.0" if "version=2" in negotiated else "1.0.0"
            encoder = partial(generate_openmetrics, version=version)
            content_type = _OPENMETRICS[version]

        def render(now: Now) -> bytes:
            snapshot = now.reading.snapshot if now.reading else None
            return encoder(
                self.context.exporter.families(
                    snapshot,
                    self.context.daemon(now),
                    self.context.live.assessment(),
                    Exposition.of(content_type),
                    now.census,
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
