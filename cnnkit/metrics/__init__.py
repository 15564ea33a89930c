"""Counts, scores and intervals of a classifier, with NumPy and without torch."""
