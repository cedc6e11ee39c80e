# SPDX-License-Identifier: Apache-2.0
"""Servers of the tests: metrics to scrape, and a receiver of alerts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST

Answer = Callable[[bytes], str]


@contextmanager
def _serving(answer: Answer) -> Iterator[str]:
    """Answers every request, one at a time, with what `answer` makes of its body."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                reply = answer(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a scrape a second."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def exporter(scrape: Callable[[], str]) -> Iterator[str]:
    """A target; yields its address. `scrape` makes the metrics' text."""
    with _serving(lambda body: scrape()) as address:
        yield address


class Received:
    """Alerts as a webhook gets them from Alertmanager."""

    def __init__(self) -> None:
        self._alerts: list[dict[str, Any]] = []

    def take(self, body: bytes) -> str:
        """One notification."""
        self._alerts += json.loads(body)["alerts"]
        return ""

    def having(self, status: str, name: str, **labels: str) -> list[dict[str, Any]]:
        """Alerts of this name and these labels that came as `firing` or `resolved`."""
        wanted = {"alertname": name, **labels}
        return [
            alert
            for alert in list(self._alerts)
            if alert["status"] == status and wanted.items() <= alert["labels"].items()
        ]


@contextmanager
def webhook() -> Iterator[tuple[str, Received]]:
    """A receiver; yields its URL and what it gets."""
    received = Received()
    with _serving(received.take) as address:
        yield f"http://{address}/", received
