"""Driving training processes: start them, interleave them, survive them. No torch."""
