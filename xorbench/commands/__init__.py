"""One module for each command; each composes the packages before it."""
