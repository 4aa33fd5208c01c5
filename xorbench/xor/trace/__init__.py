"""Step-by-step analysis of a case: trace, diff, explain."""
