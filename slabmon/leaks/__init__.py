# SPDX-License-Identifier: Apache-2.0
"""Verdicts: which growth is a leak, with the evidence for and against. docs/verdicts.md has the
method; observer.Observer is the way in."""
