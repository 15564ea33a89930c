"""The search for settings by trials, each a training with a run directory of its own."""
