"""The command line: one file per command; each parses, calls `cnnkit.api` and renders."""

import gc

# By default Python looks for reference cycles after every 700 new objects. The imports of a command make a hundred thousand objects and no
# cycles, so the first command line that is imported sets the limit.
gc.set_threshold(100_000, 50, 50)
