"""Snapshots as metrics, JSON, CSV and tables."""
