"""The process that trains: `python -m xorbench.process`, driven through a pipe."""
