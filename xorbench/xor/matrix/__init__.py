"""The plan of a run: cases, axes, recipes, engines, faults. Standard library only."""
