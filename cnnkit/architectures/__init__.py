"""The architectures that come with cnnkit, registered and loaded as any plugin is."""
