# SPDX-License-Identifier: Apache-2.0
"""From BPF maps to the rows of a snapshot."""
