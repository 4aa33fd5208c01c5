"""A training of your own: run, recorded, compared."""
