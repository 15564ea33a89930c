"""Every setting of a training: where its default, its value and its check come from."""
