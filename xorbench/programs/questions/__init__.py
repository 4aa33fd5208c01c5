"""The questions about a user's training, one per module."""
