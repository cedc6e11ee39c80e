# SPDX-License-Identifier: Apache-2.0
"""Modules that import nothing else of slabmon: errors, limits, parsing, formatting, zstd."""
