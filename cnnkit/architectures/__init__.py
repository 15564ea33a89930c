"""The built-in architectures, which are registered and loaded like those of plugins."""
