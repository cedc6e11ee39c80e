# SPDX-License-Identifier: Apache-2.0
"""What slabmon costs on this host, measured: `slabmon bench`."""
