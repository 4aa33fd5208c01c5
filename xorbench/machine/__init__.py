"""Is a machine right? Probes, the universal training, the canary, the sweep."""
