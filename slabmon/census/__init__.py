# SPDX-License-Identifier: Apache-2.0
"""The census of slab memory: what a reading of all slabs found."""
