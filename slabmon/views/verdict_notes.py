# SPDX-License-Identifier: Apache-2.0
"""Why there are no suspected leaks, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabmon.base.activity import Activity
from slabmon.base.format import duration

if TYPE_CHECKING:
    from slabmon.leaks.finding import Assessment
    from slabmon.views.table import Table


def without_suspects(assessment: Assessment | None) -> str:
    """Return what an assessment without suspects means."""
    if assessment is None:
        return "not assessed at this moment"
    if assessment.activity == Activity.OFF:
        return "not looked for: tracking is off"
    if assessment.activity == Activity.ASLEEP:
        return "nothing grows: tracking is asleep"
    if assessment.ready:
        return f"none suspected in {duration(assessment.observed)}"
    return f"too early: {duration(assessment.observed)} of {duration(assessment.needed)}"


def verdicts_note(table: Table) -> str:
    """Return what it means that there are no suspects, "" if there are some."""
    assessment = table.window.now.assessment
    if assessment is not None and assessment.verdicts:
        return ""
    return f"leaks: {without_suspects(assessment)}"
