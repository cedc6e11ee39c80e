# SPDX-License-Identifier: Apache-2.0
"""From facts and settings to what is compiled, attached and degraded."""
