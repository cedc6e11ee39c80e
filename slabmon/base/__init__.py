"""Leaf modules that import nothing else of slabmon: errors, limits, parsing, formatting, compression."""
