"""`xorbench.check` and `xorbench.run` for Python."""
