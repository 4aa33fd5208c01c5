"""What the observations mean: pure functions from records to verdicts."""
