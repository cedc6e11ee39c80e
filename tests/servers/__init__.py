# SPDX-License-Identifier: Apache-2.0
"""Real Prometheus, Alertmanager and VictoriaMetrics from Debian, on the loopback."""
