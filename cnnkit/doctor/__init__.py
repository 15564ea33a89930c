"""Checks of the data: findings on files, pictures, classes, copies, shortcuts and labels.

Every check reads `Evidence`, collected in one pass over the images, and returns a `Finding` or None. No check opens an image or
changes a file.
"""
