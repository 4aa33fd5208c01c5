"""The training process: `python -m xorbench.process`, controlled through a pipe."""
