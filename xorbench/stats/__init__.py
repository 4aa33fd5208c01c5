"""Statistics: intervals, ratios, distances between numbers."""
