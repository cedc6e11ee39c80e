# SPDX-License-Identifier: Apache-2.0
"""Grafana dashboards and Prometheus rules; `make dashboards` writes the JSON files."""
