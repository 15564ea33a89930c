"""The search for settings: its space, its trials in a storage that several processes share, and its workers. No torch."""
