"""What the times and weights of a run show: pure functions of its records."""
