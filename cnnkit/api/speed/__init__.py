"""Benchmarks of training and prediction on this machine."""
