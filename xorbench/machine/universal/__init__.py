"""The universal training, bitwise identical on every machine that rounds correctly.

It uses only float32 ``+ - *``, division, min, max, comparison and integer arithmetic, rounds each
operation separately and fixes the order. One golden digest therefore checks any device without a
baseline of the same kind. ``docs/universal.md`` describes what this proves.

- :mod:`~xorbench.machine.universal.spec`: integers, points, initial weights, order, digest
- :mod:`~xorbench.machine.universal.trained`: the result of a training
- :mod:`~xorbench.machine.universal.backends`: the table of backends, loaded on demand
- :mod:`~xorbench.machine.universal.golden`: the golden values and their checks
- :mod:`~xorbench.machine.universal.probe`: edge cases of arithmetic that no training reaches

Importing this package is cheap.
"""
