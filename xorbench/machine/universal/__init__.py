"""The universal training: a training whose bits are the same on every machine that rounds right.

It uses float32 ``+ - *``, division, min, max, comparison and integer arithmetic alone, each with
its own rounding and in a fixed order, so one golden digest checks any device without a baseline
from one like it. ``docs/universal.md`` tells what that proves and what it does not.

- :mod:`~xorbench.machine.universal.spec`: integers, points, initial weights, order, digest
- :mod:`~xorbench.machine.universal.trained`: what a training leaves behind
- :mod:`~xorbench.machine.universal.backends`: the table of backends, loaded when they are asked for
- :mod:`~xorbench.machine.universal.golden`: the known right answers, and the check against them
- :mod:`~xorbench.machine.universal.probe`: edge cases of arithmetic that no training meets

Importing this package imports nothing heavy.
"""
