"""What another package adds to xorbench; docs/extending.md explains it."""
