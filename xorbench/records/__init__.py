"""Observations: immutable records and the files that store them. No torch."""
