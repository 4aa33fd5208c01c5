"""The canary: check in seconds that each device computes correctly."""
