"""One module a verb: each composes the packages before it."""
