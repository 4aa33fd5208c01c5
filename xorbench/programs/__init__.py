"""User trainings: runs, records, comparisons."""
