# SPDX-License-Identifier: Apache-2.0
"""What outlives the daemon: kernel objects, and what Python knows about them."""
