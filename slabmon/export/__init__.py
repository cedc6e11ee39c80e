# SPDX-License-Identifier: Apache-2.0
"""Snapshots as metrics, JSON, CSV and tables."""
