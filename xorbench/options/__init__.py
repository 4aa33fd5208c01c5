"""Options: their names, values and exclusions. Standard library only."""
