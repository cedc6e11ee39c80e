# SPDX-License-Identifier: Apache-2.0
"""A compile child that fails: the error names the cause and what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost
from slabmon.kernel.loading.loader import Compiler


def ask(compiler: Compiler) -> None:
    compiler.request({})
    compiler.finish()


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", UnsupportedHost, ["out of memory", "MemoryMax="]),
        ("raise MemoryError", UnsupportedHost, ["out of memory", "200 MiB"]),
        (
            "import os, sys; sys.stderr.write('terminate called: std::bad_alloc'); os.abort()",
            UnsupportedHost,
            ["out of memory"],
        ),
        ("raise ModuleNotFoundError(\"No module named 'bcc'\")", UnsupportedHost, ["apt-get"]),
        ("raise OSError(1, 'Operation not permitted')", PermissionDenied, ["CAP_BPF"]),
        ("raise OSError(38, 'Function not implemented')", UnsupportedHost, ["seccomp", "bpf()"]),
        ("raise OSError(24, 'Too many open files')", UnsupportedHost, ["ulimit -n"]),
        ("raise RuntimeError('of another kind')", SlabmonError, ["of another kind"]),
    ],
    ids=["killed", "python", "c++", "no bcc", "not permitted", "no bpf", "no descriptors", "other"],
)
def test_the_cause_is_named(
    program: str, kind: type[SlabmonError], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def start(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return popen([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    with Compiler() as compiler, pytest.raises(SlabmonError) as caught:
        ask(compiler)
    assert type(caught.value) is kind
    assert all(word in str(caught.value) for word in words), caught.value
