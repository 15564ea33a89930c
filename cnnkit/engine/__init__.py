"""The training engine: the loop, early stopping, the optimizer, the runtime, and the state for an exact resume."""
