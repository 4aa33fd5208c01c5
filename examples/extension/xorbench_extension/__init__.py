"""An extension package for xorbench; docs/extending.md explains it."""
