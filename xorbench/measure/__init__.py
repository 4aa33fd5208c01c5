"""Driving workers: start them, interleave them, survive them. No torch."""
