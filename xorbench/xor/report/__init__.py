"""The report of a run: which tables, which pictures."""
