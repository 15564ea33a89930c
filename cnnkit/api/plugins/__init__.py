"""Installed plugins: their list, the check of one of them, and the scaffold of a new package."""
