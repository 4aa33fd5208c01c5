"""Exact probes: computations with integers so small that no unit of a device rounds them.

The expected results come from integer arithmetic and are identical on every machine, so no baseline
is needed. `machine.probes.table.PROBES` has a row for each probe, `golden.json` the digests of the
expected results.
"""
