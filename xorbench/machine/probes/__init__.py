"""Exact probes: integers small enough that no unit of a device ever rounds them.

Their one right answer comes from integer arithmetic, the same on every machine, so no baseline is
needed. `machine.probes.table.PROBES` has the row of each, `golden.json` the digests of the right
answers.
"""
