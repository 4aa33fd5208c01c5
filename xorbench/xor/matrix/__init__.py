"""What to train: cases, axes, recipes, engines, faults. Standard library only."""
