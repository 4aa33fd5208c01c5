"""One training of a case step by step: recorded, compared, explained."""
