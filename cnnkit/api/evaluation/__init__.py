"""Evaluation, comparison and the rules that validation images give a model."""
