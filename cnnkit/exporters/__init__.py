"""Exported files: written, checked against the model on real images, opened again."""
