# SPDX-License-Identifier: Apache-2.0
"""Screenshots of the dashboards without Grafana's server: `make preview`."""
