"""``python -m cnnkit``."""

from cnnkit.cli.app import entry

entry()
