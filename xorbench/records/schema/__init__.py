"""The records of a run: immutable and versioned, one module per kind."""
