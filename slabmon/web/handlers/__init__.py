# SPDX-License-Identifier: Apache-2.0
"""Request handlers and their response bodies."""
