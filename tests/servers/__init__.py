"""Real Prometheus, Alertmanager and VictoriaMetrics from Debian, on the loopback."""
