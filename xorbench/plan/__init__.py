"""What to run: recipes, cases, configs, and the axes they vary along. Standard library only."""
