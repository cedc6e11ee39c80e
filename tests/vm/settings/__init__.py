# SPDX-License-Identifier: Apache-2.0
"""Tests in guests that are booted with other settings: see tests/vm/README.md."""
