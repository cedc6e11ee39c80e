"""Kernel text symbols, over module loads and unloads."""
