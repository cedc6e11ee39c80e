# SPDX-License-Identifier: Apache-2.0
"""What the privileged process holds: nothing that parses what strangers send."""

from __future__ import annotations

import json
import subprocess
import sys

_SHOW = """
import json, sys
import slabmon.cli.main
slabmon.cli.main.build_parser()
import slabmon.daemon.main
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_collector_imports_no_http_tls_or_yaml() -> None:
    done = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, check=True)
    found = set(json.loads(done.stdout))
    assert not found & {"tornado", "ssl", "yaml", "prometheus_client", "asyncio", "http", "bcrypt"}
