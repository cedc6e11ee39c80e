# SPDX-License-Identifier: Apache-2.0
"""The kernel side: facts, plan, loading, and reading of what the programs count."""
