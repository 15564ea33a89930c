"""What a classifier is worth: counts, scores, intervals. NumPy only; no torch."""
