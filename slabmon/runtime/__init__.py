"""What concerns the running process itself: logs, signals, sockets, systemd, event loop, budget."""
