"""Managed (devres) resources of every device."""
