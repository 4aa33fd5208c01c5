"""What to run: recipes, cases, settings, and the axes they vary along. Standard library only."""
