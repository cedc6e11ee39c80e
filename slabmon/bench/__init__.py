# SPDX-License-Identifier: Apache-2.0
"""Measure the cost of slabmon on this host: `slabmon bench`."""
