# SPDX-License-Identifier: Apache-2.0
"""The daemon: the collector and the control of its web process."""
