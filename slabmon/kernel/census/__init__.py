# SPDX-License-Identifier: Apache-2.0
"""Reading all slab memory of the running kernel, by programs run on demand."""
