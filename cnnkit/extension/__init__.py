"""The contract of metrics, losses, optimizers and augmentations of other packages.

Each is a frozen value that holds one function. The keyword-only parameters of the function are its options.
"""
