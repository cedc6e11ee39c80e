# SPDX-License-Identifier: Apache-2.0
"""Reports of one moment, or of the changes between two: a page, a profile, folded stacks."""
