"""Labelled recordings, made by a seed, and how well the verdict engine does on them."""
