"""Division into train, val and test: quotas, copies, groups, split.csv."""
