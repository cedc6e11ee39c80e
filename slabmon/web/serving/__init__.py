"""The HTTP server: connections, limits, TLS, authentication, privileges."""
