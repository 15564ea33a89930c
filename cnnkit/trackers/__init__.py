"""Trackers: programs that follow a training beside the run directory. Each is an entry point of ``cnnkit.trackers``."""
