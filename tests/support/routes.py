# SPDX-License-Identifier: Apache-2.0
"""All routes of the web application, for tests that must not forget one."""

from __future__ import annotations

from slabmon.web.app import routes
from slabmon.web.settings import WebSettings

ROUTES = [pattern for pattern, _ in routes(WebSettings())]
# Paths of the routes that match more than one.
_PATHS = {
    r"/static/([a-z.]+)": ["/static/page.js", "/static/index.html", "/static/" + "a." * 2000],
    r"/api/v1/table\.(csv|json)": ["/api/v1/table.csv", "/api/v1/table.json"],
    "/debug/pprof/(heap|allocs)": ["/debug/pprof/heap", "/debug/pprof/allocs"],
}


def paths(pattern: str) -> list[str]:
    """Return paths of a route."""
    return _PATHS.get(pattern) or [pattern.replace("\\", "")]
