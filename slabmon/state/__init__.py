# SPDX-License-Identifier: Apache-2.0
"""State that outlives the daemon: kernel objects, and what Python knows about them."""
