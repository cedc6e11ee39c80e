"""Benchmarks: `make help` lists them. Results are in docs/; no test depends on their times."""
