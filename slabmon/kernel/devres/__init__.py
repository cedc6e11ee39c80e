# SPDX-License-Identifier: Apache-2.0
"""Managed (devres) resources of every device."""
