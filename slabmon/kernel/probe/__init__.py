# SPDX-License-Identifier: Apache-2.0
"""Facts about the running kernel: BTF, tracefs, slabinfo, cgroups, GFP bits, the direct map."""
