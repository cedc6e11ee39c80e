# SPDX-License-Identifier: Apache-2.0
"""What concerns the running process itself: logs, signals, sockets, systemd, event loop, budget."""
