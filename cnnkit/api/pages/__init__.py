"""HTML reports on one run and on several."""
