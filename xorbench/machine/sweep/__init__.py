"""The sweep: many seeds of the universal training."""
