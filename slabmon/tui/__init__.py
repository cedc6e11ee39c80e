# SPDX-License-Identifier: Apache-2.0
"""slabmon top: the terminal view. Only app, grid and screens import Textual."""
