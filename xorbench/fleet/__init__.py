"""Many machines: compare the records of all ranks, and name the outliers."""
