"""Tests that run inside a guest (see tests/vm)."""
