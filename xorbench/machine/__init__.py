"""Correctness of a machine: probes, the universal training, the canary, the sweep."""
