"""The process that trains: `python -m xorbench.worker`, driven through a pipe."""
