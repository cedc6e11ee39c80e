# SPDX-License-Identifier: Apache-2.0
"""HTTP: metrics, JSON and a page for a person."""
