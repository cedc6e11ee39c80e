"""Snapshots as bytes, and their history in a file."""
