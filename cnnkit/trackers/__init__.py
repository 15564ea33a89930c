"""Trackers: programs that record a training beside the run directory. Each is an entry point of ``cnnkit.trackers``."""
