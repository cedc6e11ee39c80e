"""The daemon: the collector and the control of its web process."""
