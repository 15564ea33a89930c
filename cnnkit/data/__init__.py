"""Input of images: sources, the decoder, the scan and its store, splits, batches and augmentation."""
