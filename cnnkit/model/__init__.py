"""A trained model: its file, its preprocessing, its head, its predictions."""
