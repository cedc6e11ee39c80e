# SPDX-License-Identifier: Apache-2.0
"""Work done in a copy of this process, which ends with it: what is needed for a moment leaves no
holes in this one's memory, and writes to nothing that is shared."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """What `work` returns or raises, which has to be picklable. Only for a process of one thread.
    ChildProcessError if the copy died."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _work(work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        data = answer.read()
    os.waitpid(pid, 0)
    if not data:
        raise ChildProcessError("a part of the start ended early; see what it logged")
    good, found = pickle.loads(data)
    if not good:
        raise found
    result: T = found
    return result


def _work(work: Callable[[], object], writer: int) -> NoReturn:
    try:
        try:
            answer: tuple[bool, object] = True, work()
        except Exception as error:
            answer = False, error
        with os.fdopen(writer, "wb") as out:
            out.write(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
