# SPDX-License-Identifier: Apache-2.0
"""The overview, the first view: what is wrong with this host's memory, and who holds it."""
