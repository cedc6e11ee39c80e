# SPDX-License-Identifier: Apache-2.0
"""Statistics over one or two snapshots, as pure functions."""
