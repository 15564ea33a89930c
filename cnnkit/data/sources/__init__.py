"""Sources of images: one file per kind of ``--data``, each behind an entry point of the group ``cnnkit.sources``."""
