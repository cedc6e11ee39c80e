# SPDX-License-Identifier: Apache-2.0
"""The web application: all routes, in one table. All of them are read-only."""

from __future__ import annotations

import logging
import re

from tornado.web import Application, RequestHandler

from slabmon.web.handlers.base import Context, Handler
from slabmon.web.handlers.census import CensusHandler
from slabmon.web.handlers.memory import MemoryHandler
from slabmon.web.handlers.page import (
    ChartHandler,
    ExportHandler,
    FileHandler,
    TableHandler,
    ViewsHandler,
)
from slabmon.web.handlers.past import HistoryHandler, LeaksHandler, SnapshotHandler
from slabmon.web.handlers.profile import ProfileHandler
from slabmon.web.handlers.telemetry import HealthHandler, MetricsHandler, ReadyHandler
from slabmon.web.handlers.window import WindowHandler
from slabmon.web.settings import WebSettings

log = logging.getLogger(__name__)


def routes(settings: WebSettings) -> list[tuple[str, type[Handler]]]:
    """Return all routes: expressions that match whole paths, and their handlers."""
    return [
        (re.escape(settings.telemetry_path), MetricsHandler),
        ("/healthz", HealthHandler),
        ("/readyz", ReadyHandler),
        ("/", FileHandler),
        (r"/static/([a-z.]+)", FileHandler),
        ("/api/v1/snapshot", SnapshotHandler),
        ("/api/v1/census", CensusHandler),
        ("/api/v1/memory", MemoryHandler),
        ("/api/v1/leaks", LeaksHandler),
        ("/api/v1/history", HistoryHandler),
        ("/api/v1/views", ViewsHandler),
        ("/api/v1/window", WindowHandler),
        ("/api/v1/table", TableHandler),
        (r"/api/v1/table\.(csv|json)", ExportHandler),
        ("/api/v1/chart", ChartHandler),
        ("/debug/pprof/(heap|allocs)", ProfileHandler),
    ]


def make_app(context: Context) -> Application:
    """Return the application with all routes; any other path is answered with 404."""
    return Application(
        list(routes(context.settings)),
        default_handler_class=Handler,
        log_function=_log_errors,
        context=context,
    )


def _log_errors(handler: RequestHandler) -> None:
    """Log internal errors only: clients cause all others, as fast as they like."""
    if handler.get_status() == 500:
        log.error("%s %s: %d", handler.request.method, handler.request.path, handler.get_status())
