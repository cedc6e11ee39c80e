# SPDX-License-Identifier: Apache-2.0
"""A command that waits, runs, and gets its signals. Each test is a process of its own, whose
signals and children are not those of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.paths import ROOT

LIMIT_SECONDS = 60
# Bits of signals 32 and 33, which a process cannot set: the C library keeps them to itself. Some
# container runtimes leave them ignored.
_KEPT_BY_C_LIBRARY = 1 << 31 | 1 << 32


def script(body: str) -> tuple[str, ...]:
    code = (
        "import os, signal, sys, time\nfrom slabmon.runtime.command import Command, interrupted\n"
    )
    return sys.executable, "-c", code + textwrap.dedent(body)


def run(
    body: str, text: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        script(body),
        input=text,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        cwd=ROOT,
    )


def test_it_starts_only_when_it_is_released() -> None:
    done = run("""
        with Command(["echo", "started"]) as command:
            time.sleep(0.2)
            os.write(1, b"before\\n")
            assert command.release() == ""
            assert command.wait(lambda: None, 0.01) == 0
    """)
    assert (done.stdout, done.stderr) == ("before\nstarted\n", "")


def test_it_never_starts_if_it_is_not_released() -> None:
    done = run("""
        with Command(["echo", "started"]):
            pass
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("argv", "code", "number"),
    [
        (["sh", "-c", "exit 3"], 3, None),
        (["sh", "-c", "kill -KILL $$"], 137, 9),
        (["true"], 0, None),
    ],
)
def test_its_exit_code_is_the_commands(argv: list[str], code: int, number: int | None) -> None:
    done = run(f"""
        with Command({argv!r}) as command:
            command.release()
            print(command.wait(lambda: None, 0.01), command.signal)
    """)
    assert done.stdout == f"{code} {number}\n"


def test_a_command_that_cannot_be_executed_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    for path, code, words in (
        ("/absent/tool", 127, "No such file"),
        (str(plain), 126, "Permission denied"),
    ):
        done = run(f"""
            with Command([{path!r}]) as command:
                print(command.release(), command.exit_code)
        """)
        assert words in done.stdout
        assert done.stdout.endswith(f"{code}\n")


def test_standard_streams_environment_and_signals_are_as_if_it_ran_alone() -> None:
    inner = (
        "import os, signal, sys; print(sys.stdin.read(), os.environ['MARK'], "
        "signal.pthread_sigmask(signal.SIG_BLOCK, []), len(os.listdir('/proc/self/fd')))"
    )
    status = "grep -E 'Sig(Blk|Ign)' /proc/self/status; "
    environment = {**os.environ, "MARK": "x", "PYTHONPATH": str(ROOT)}
    done = run(
        f"""
        shell = {status!r} + 'exec "$0" -c "$1"'
        with Command(["sh", "-c", shell, sys.executable, {inner!r}]) as it:
            it.release()
            it.wait(lambda: None, 0.01)
        """,
        "hello",
        environment,
    )
    assert "hello x set() 4" in done.stdout  # 3 streams, and the directory that is listed
    masks = dict(line.split(":\t") for line in done.stdout.splitlines() if ":\t" in line)
    assert {int(mask, 16) & ~_KEPT_BY_C_LIBRARY for mask in masks.values()} == {0}


def test_it_is_attended_to_while_it_runs() -> None:
    done = run("""
        calls = []
        with Command(["sleep", "0.3"]) as command:
            command.release()
            command.wait(lambda: calls.append(1), 0.01)
        print(len(calls) > 3)
    """)
    assert done.stdout == "True\n"


PASSES_ON = """
    shell = "trap 'exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    with Command(["sh", "-c", shell]) as command:
        command.release()
        code = command.wait(lambda: None, 0.05)
    print("code", code, flush=True)
"""


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_to_slabmon_reach_the_command(name: str) -> None:
    with subprocess.Popen(
        script(PASSES_ON.format(name=name)), stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.stdout.readline() == "code 5\n"
        assert process.wait(LIMIT_SECONDS) == 0


COUNTS = """
import signal, time
count = 0
def note(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, note)
print("ready", flush=True)
end = time.monotonic() + 1
while time.monotonic() < end:
    time.sleep(0.05)
print("count", count, flush=True)
"""


def test_ctrl_c_on_a_terminal_is_delivered_once() -> None:
    """The terminal's driver sends it to the command as well."""
    body = f"""
        with Command([sys.executable, "-c", {COUNTS!r}]) as command:
            command.release()
            command.wait(lambda: None, 0.05)
    """
    child, terminal = os.forkpty()
    if not child:
        os.chdir(ROOT)
        os.execv(sys.executable, script(body))
    output = read_until(terminal, b"ready")
    os.write(terminal, b"\x03")
    output += read_until(terminal, b"count")
    assert b"count 1" in output
    os.waitpid(child, 0)
    os.close(terminal)


def read_until(terminal: int, word: bytes) -> bytes:
    output = b""
    deadline = time.monotonic() + LIMIT_SECONDS
    while word not in output or not output.endswith(b"\n"):
        assert time.monotonic() < deadline
        try:
            output += os.read(terminal, 1024)
        except OSError:
            break
    return output


def test_a_wait_after_the_command_ends_early_on_a_signal() -> None:
    done = run("""
        with Command(["true"]) as command:
            command.release()
            command.wait(lambda: None, 0.01)
            assert not interrupted(0.01)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not interrupted(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            print(interrupted(30))
    """)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_signals_have_their_usual_effect_afterwards() -> None:
    done = run("""
        with Command(["true"]) as command:
            command.release()
            command.wait(lambda: None, 0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    """)
    assert done.returncode == -signal.SIGTERM
