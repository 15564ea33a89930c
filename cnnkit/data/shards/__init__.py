"""Data sets in many large files: tar shards and parquet files, on this machine or at an address."""
