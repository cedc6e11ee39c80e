"""From facts and settings to what is compiled, attached and degraded."""
