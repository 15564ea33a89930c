"""Evaluation, comparison, and the rules of a model, fitted on validation images."""
