# SPDX-License-Identifier: Apache-2.0
"""Request handlers and the bodies they answer with."""
