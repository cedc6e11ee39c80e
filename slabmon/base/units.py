# SPDX-License-Identifier: Apache-2.0
"""Units of figures, and the type of a value in a column."""

from __future__ import annotations

Value = str | int | float | bool | list[int | None] | None

COUNT, BYTES, SECONDS, PERCENT = "count", "bytes", "seconds", "ratio"
PER_SECOND, BYTES_PER_SECOND, BYTES_PER_HOUR = "count/s", "bytes/s", "bytes/h"
