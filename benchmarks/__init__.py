# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: `make help` lists them. Results are in docs/; no test depends on their times."""
