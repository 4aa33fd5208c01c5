"""Analysis of the times and weights of a run: pure functions of its records."""
