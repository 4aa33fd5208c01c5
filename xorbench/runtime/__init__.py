"""Starts, supervises, loads and ends processes. No torch."""
