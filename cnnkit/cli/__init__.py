"""The command line: one file per command; each parses, calls `cnnkit.api` and renders."""
