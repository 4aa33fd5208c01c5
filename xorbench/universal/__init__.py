"""The universal training: a training whose bits are the same on every machine that rounds right.

It uses float32 ``+ - *``, division, min, max, comparison and integer arithmetic alone, each with
its own rounding and in a fixed order, so one golden digest checks any device without a baseline
from one like it. ``docs/universal.md`` tells what that proves and what it does not.

- :mod:`~xorbench.universal.spec`: integers, points, initial weights, order, digest
- :mod:`~xorbench.universal.trained`: what a training leaves behind
- :mod:`~xorbench.universal.backends`: the table of backends, loaded when they are asked for
- :mod:`~xorbench.universal.golden`: the known right answers, and the check against them
- :mod:`~xorbench.universal.probe`: edge cases of the arithmetic that the training never meets

Importing this package imports nothing heavy.
"""
