# SPDX-License-Identifier: Apache-2.0
"""Labelled recordings, made by a seed, and how well the verdict engine does on them."""
