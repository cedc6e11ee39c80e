# SPDX-License-Identifier: Apache-2.0
"""The command line: one subparser per module of slabmon.cli; main() alone ends the process."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from slabmon import __version__
from slabmon.base.errors import NeedsRoot, SlabmonError, of_environment
from slabmon.base.names import near_names
from slabmon.cli import streams

# What write() fails with on a full disk, beyond a quota or a limit of size, and on a broken disk.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Parser(argparse.ArgumentParser):
    """argparse with slabmon's error line, which names the help of the command it is about."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse; what is left over is an error here, not of the parser of all commands."""
        parsed, left = super().parse_known_args(args, namespace)
        if left:
            name, known = left[0].partition("=")[0], self._option_string_actions
            options = [option[2:] for option in known if option.startswith("--")]
            near = near_names(name[2:], options) if name.startswith("--") else []
            hint = f"; near names: --{', --'.join(near)}" if near else ""
            self.error(f"unrecognized arguments: {' '.join(left)}{hint}")
        return parsed, left

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print one line and exit with 2."""
        line = " ".join(message.split())
        sys.stderr.write(f"slabmon: error: {line}; see '{self.prog} --help'\n")
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from slabmon.cli import (
        bench,
        census,
        check,
        leaks,
        memory,
        record,
        replay,
        report,
        run,
        serve,
        snapshot,
        top,
    )

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback on errors"
    )
    common.add_argument("--version", action="version", version=f"slabmon {__version__}")
    parser = Parser(
        prog="slabmon",
        parents=[common],
        description="Shows which device, driver, cache and call site holds kernel memory, live.",
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )
    for module in (
        serve,
        top,
        snapshot,
        census,
        memory,
        leaks,
        run,
        report,
        record,
        replay,
        check,
        bench,
    ):
        module.add_parser(commands, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 usage or bad input, 3 permission, 4
    unsupported host, 70 internal error or output that cannot be written."""
    streams.prepare()
    options = argparse.Namespace()
    try:
        try:
            build_parser().parse_args(arguments, options)
        except SystemExit:
            sys.stdout.flush()  # after --help and --version
            raise
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has gone, as with `| head`; that is not an error.
        _discard_output()
        return 0
    except Exception as error:
        if getattr(options, "debug", False):
            raise
        code, message = describe(error)
        _discard_output()
    sys.stderr.write(f"slabmon: error: {' '.join(message.split())}\n")
    return code


def describe(error: Exception) -> tuple[int, str]:
    """Return exit code and message for an error."""
    if isinstance(error, NeedsRoot):
        return error.exit_code, f"{error}{_instead_of_root()}"
    if isinstance(error, SlabmonError):
        return error.exit_code, str(error)
    if isinstance(error, OSError) and error.filename is None and error.errno in _CANNOT_WRITE:
        return 70, f"cannot write the output: {os.strerror(error.errno).lower()}"
    if isinstance(error, OSError) and error.errno == errno.EBADF and streams.output_is_closed():
        return 70, "cannot write the output: standard output is closed"
    environment = of_environment(error)
    if environment is not None:
        return environment.exit_code, str(environment)
    return (
        70,
        f"{type(error).__name__}: {error}; this is a bug; report it with the output of --debug",
    )


def _instead_of_root() -> str:
    """Return what needs no root, "" if no daemon runs on this host."""
    from slabmon.runtime.listeners import DEFAULT_SOCKET
    from slabmon.web.settings import DEFAULT_ADDRESS

    if not os.path.exists(DEFAULT_SOCKET):
        return ""
    return (
        "; a daemon runs on this host: top, leaks, report, record, census and memory read it "
        f"without root, with --connect http://{DEFAULT_ADDRESS} or where else it listens"
    )


def _discard_output() -> None:
    """Keep the interpreter from flushing standard output again, and failing, when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
