"""Exports: files for other programs, checked against their model, with the files beside them."""
