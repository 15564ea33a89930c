"""How a network learns: the loop, early stopping, optimizer, runtime, and the state for an exact resume."""
