# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: connections, limits, TLS, authentication, privileges."""
