# SPDX-License-Identifier: Apache-2.0
"""The page of the real daemon: what it shows moves by what this host allocates."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.live.workload import messages
from tests.page.conftest import Served, Tab

pytestmark = [pytest.mark.live, pytest.mark.browser]
CHURN = 1013


class Daemon(Served):
    """slabmon serve."""

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "slabmon", "serve", "--web.listen-address", "127.0.0.1:0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = next(line for line in self._process.stdout if "http://" in line)
        self._port = int(re.findall(r":(\d+)/", line)[0])

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            assert self._process.returncode == 0
            self._process = None


def test_the_page_counts_a_workload(open_page: Callable[..., Tab]) -> None:
    with messages() as queue:
        server = Daemon("live")
        queue.churn(1, 900)
        tab = open_page("live", '#every=true&filter="/^msg_msg-1k$/"', server=server)
        place = "[...document.querySelectorAll('thead th')].findIndex(one => %s)"
        place %= "one.dataset.name === 'allocs'"
        cell = f"document.querySelector('tbody tr').cells[{place}].title"
        tab.wait(f"{cell} !== '0 count'")  # the cache is listed before its first event is read
        before = int(tab.page.evaluate(cell).split()[0].replace(",", ""))
        queue.churn(CHURN, 900)
        tab.wait(f"{cell} === ({before + CHURN}).toLocaleString('en') + ' count'")
        assert "sampled every 128.0 KiB" in tab.page.locator("#facts").inner_text()
        tab.page.get_by_role("link", name="sites", exact=True).click()
        tab.wait("document.querySelector('#title').textContent.startsWith('call sites')")
        tab.page.locator("#filter").fill("load_msg")
        tab.wait("document.querySelector('tbody th')?.textContent.includes('load_msg')")
        server.stop()
        # Gone with the daemon; the browser reports each refused connection.
        tab.wait("!document.getElementById('banner').hidden")
        tab.complaints = [text for text in tab.complaints if "net::ERR_CONNECTION" not in text]
