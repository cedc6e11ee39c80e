# SPDX-License-Identifier: Apache-2.0
"""Reports of one moment, or of what changed between two: a page, a profile, folded stacks."""
