"""Grafana dashboards and Prometheus rules; `make dashboards` writes the JSON files."""
