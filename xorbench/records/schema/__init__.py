"""The records of a run, frozen and versioned: a file a kind."""
