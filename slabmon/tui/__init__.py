# SPDX-License-Identifier: Apache-2.0
"""slabmon top: the terminal view. Only app and its widgets import Textual."""
