"""Values of other packages made ready for a command: loaded, tried, and checked after the fence."""
