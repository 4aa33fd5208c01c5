"""Options: their names, values, requirements and exclusions. Standard library only."""
