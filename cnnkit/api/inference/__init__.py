"""Models and runs that exist: prediction, explanation, export, info, list of runs."""
