"""Random augmentation of whole batches, reproducible by seed, epoch and sample."""
