# SPDX-License-Identifier: Apache-2.0
"""Snapshots as bytes, and their history in a file."""
