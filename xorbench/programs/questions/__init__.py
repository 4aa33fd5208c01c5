"""The questions about a training of your own, one a file."""
