# SPDX-License-Identifier: Apache-2.0
"""Tests that run inside a guest (see tests/vm)."""
