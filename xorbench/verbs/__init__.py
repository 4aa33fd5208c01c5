"""One module a verb: each composes the rooms before it."""
