"""The store of decoded images: scan, decoding processes, cache on disk."""
