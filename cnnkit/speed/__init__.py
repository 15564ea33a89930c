"""Stopwatch, benchmark values and the advice that follows from them."""
