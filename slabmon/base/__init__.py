"""Modules that import nothing else of slabmon: errors, limits, parsing, formatting, zstd."""
