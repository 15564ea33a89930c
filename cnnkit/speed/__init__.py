"""Speed measurements: a stopwatch, the values of a benchmark, and advice from them."""
