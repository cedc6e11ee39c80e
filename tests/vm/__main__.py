# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.vm`: the guest tests on one kernel, a shell in it, or a new lock."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from xml.etree import ElementTree

from tests.vm import config, results
from tests.vm.archive import Archive
from tests.vm.hardware import DEVICES
from tests.vm.host import VmError, lock, log, require_host
from tests.vm.machine import MEMORY_MIB, GuestResult, run_guest, shell

GUEST_TESTS = "tests/vm/guest"
TEST_SECONDS = 1200  # of one test in a guest; some processors are emulated


def pytest_command(tests: str = GUEST_TESTS, expression: str = "") -> str:
    """Shell command that runs tests inside a guest and leaves junit.xml for the host."""
    words = [".venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--color=no"]
    words += [
        f"--timeout={TEST_SECONDS}",
        "--durations=5",
        "--junitxml=/vm/junit.xml",
        "-o",
        "junit_family=xunit1",
    ]
    words += shlex.split(tests)
    return shlex.join(words + (["-k", expression] if expression else []))


def main() -> int:
    """Exit code 0 when every test passed and no kernel complained, 1 otherwise."""
    options = _parser().parse_args()
    names = options.kernel or list(config.kernels())
    try:
        if options.relock:
            relock(options.kernel or list(config.kernels()))
            return 0
        if options.devices is None:  # tests of real drivers need them
            options.devices = [] if options.shell or options.command else list(DEVICES)
        if options.shell:
            return shell(names[0], **_machine(options))
        one = partial(test, options=options)  # all, even after a failure
        if options.jobs == 1:  # in this thread, where an interrupt ends the guest
            return max([one(name) for name in names])
        with ThreadPoolExecutor(options.jobs) as pool:
            return max(pool.map(one, names))
    except VmError as error:
        print(f"vm: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that say what is booted, as arguments of run_guest() and shell()."""
    return {
        "cpus": options.cpus,
        "nodes": options.nodes,
        "memory_mib": options.memory,
        "kernel_arguments": options.kernel_args,
        "devices": options.devices,
    }


def mebibytes(text: str) -> int:
    """Return the MiB of a size such as 512M or 4G."""
    match = re.fullmatch(r"(\d+)([MG])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 512M or 4G, got {text}")
    return int(match[1]) << (10 if match[2] == "G" else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("kernel", nargs="*", help="kernels of kernels.toml (default: all)")
    parser.add_argument("-k", metavar="EXPR", default="", help="only these tests, as pytest -k")
    parser.add_argument("--tests", metavar="PATHS", default=GUEST_TESTS, help="what pytest runs")
    parser.add_argument("--cpus", type=int, default=2, help="virtual CPUs (default 2)")
    parser.add_argument("--nodes", type=int, default=1, help="NUMA nodes (default 1)")
    parser.add_argument(
        "--memory", metavar="SIZE", type=mebibytes, default=MEMORY_MIB, help="512M, 4G (default 4G)"
    )
    parser.add_argument(
        "--kernel-args",
        metavar="WORDS",
        default="",
        help="added to the kernel's command line, such as --kernel-args=slub_debug=FZPU",
    )
    parser.add_argument("--jobs", type=int, default=1, help="guests at a time (default 1)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one guest")
    parser.add_argument("--shell", action="store_true", help="a root shell instead of tests")
    parser.add_argument("--command", metavar="SCRIPT", help="run this instead of the tests")
    parser.add_argument("--systemd", action="store_true", help="with systemd as process 1")
    parser.add_argument("--skip-idle", action="store_true", help="take no time while it is idle")
    parser.add_argument("--record", action="store_true", help="keep the results (results/)")
    parser.add_argument("--debug-info", action="store_true", help="with the kernel's DWARF")
    parser.add_argument("--relock", action="store_true", help="pin the archive's newest versions")
    parser.add_argument(
        "--devices",
        metavar="NAMES",
        type=lambda text: list(DEVICES) if text == "all" else text.split(","),
        help=f"extra hardware (default for tests: all), some of {','.join(DEVICES)}",
    )
    return parser


def relock(names: list[str]) -> None:
    """Pin the named kernels to what the archive has now; the others keep their pins."""
    require_host()
    with lock("lock", "waiting for another run to finish preparing the cache"):
        archive = Archive()
        archive.refresh(force=True)
        entries = config.all_locked()
        for name in names:
            entries[name] = archive.resolve(config.kernels()[name])
            log(f"{name} is {entries[name].release}")
        config.write_lock(entries)


def test(name: str, options: argparse.Namespace) -> int:
    """Run the guest tests (or a command) on one kernel and report."""
    command = options.command
    if command is None:
        command = pytest_command(options.tests, options.k)
    try:
        result = run_guest(
            name,
            command,
            **_machine(options),
            systemd=options.systemd,
            debug_info=options.debug_info,
            skip_idle=options.skip_idle,
            timeout=options.timeout,
            stream=options.jobs == 1,
            guests=options.jobs,
        )
    except VmError as error:
        print(f"vm: error: {error}", file=sys.stderr)
        return 1
    if options.jobs > 1:
        print(result.output, flush=True)
    if options.record:
        results.merge(results.of_run(result))
    log(
        f"{result.release}: {'FAILED' if result.exit_code else 'ok'}, exit code "
        f"{result.exit_code}, {junit_counts(result)}{result.seconds:.0f} s; files in {result.work}"
    )
    return 1 if result.exit_code else 0


def junit_counts(result: GuestResult) -> str:
    """A short account of the guest's junit.xml; empty when no tests ran."""
    path = result.work / "junit.xml"
    if not path.exists():
        return ""
    suite = ElementTree.parse(path).getroot().find("testsuite")
    if suite is None:
        return ""
    return (
        ", ".join(f"{suite.get(key)} {key}" for key in ("tests", "failures", "errors", "skipped"))
        + ", "
    )


if __name__ == "__main__":
    sys.exit(main())
