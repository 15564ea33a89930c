"""Splitting into train, val and test: shares, copies, groups and split.csv."""
