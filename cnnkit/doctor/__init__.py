"""What is wrong with the data: findings on files, pictures, classes, copies, shortcuts and labels.

Every check reads `Evidence`, which one pass over the images collected, and returns a `Finding` or nothing. Nothing here
opens an image or changes a file.
"""
