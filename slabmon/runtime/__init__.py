# SPDX-License-Identifier: Apache-2.0
"""The running process itself: logs, signals, sockets, systemd, event loop, channel, budget."""
