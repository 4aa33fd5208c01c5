"""Options: how each is named, read and excluded by others. Standard library only."""
