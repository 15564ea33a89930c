"""Self-contained HTML pages: a run, a comparison, the health of data, a preview."""
