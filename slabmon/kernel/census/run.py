# SPDX-License-Identifier: Apache-2.0
"""Takes a census in another process."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from slabmon.base.errors import PermissionDenied, SlabmonError, UnsupportedHost
from slabmon.census.model import Census
from slabmon.kernel.census.child import Answer
from slabmon.kernel.census.settings import CensusSettings

_ERRORS = {error.exit_code: error for error in (PermissionDenied, UnsupportedHost)}
# BLAS, which no census uses, would start a thread and its stack for every CPU.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def take_census(settings: CensusSettings) -> Census:
    """Return a census of the running kernel. Raises PermissionDenied, UnsupportedHost, and
    SlabmonError if it would use more than the settings allow."""
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "slabmon.kernel.census.child",
                str(writer),
                msgspec.json.encode(settings).decode(),
            ],
            pass_fds=(writer,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as pipe, process:
        try:
            document = pipe.read()
            assert process.stderr is not None
            complaint = process.stderr.read().decode("utf-8", "replace").strip()
        except BaseException:
            process.kill()
            raise
    if not document:
        last = complaint.splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise SlabmonError(f"census: the process that takes it ended early: {last[0]}")
    return _result(msgspec.msgpack.decode(document, type=Answer))


def _result(answer: Answer) -> Census:
    if answer.census is None:
        raise _ERRORS.get(answer.exit_code, SlabmonError)(answer.error)
    return answer.census
