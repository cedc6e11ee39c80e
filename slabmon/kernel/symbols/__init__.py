# SPDX-License-Identifier: Apache-2.0
"""Kernel text symbols, over module loads and unloads."""
