"""How images come in: sources, the decoder, the scan and its store, splits, batches, augmentation."""
