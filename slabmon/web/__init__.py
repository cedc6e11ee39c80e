"""HTTP: metrics, JSON and a page for a person."""
