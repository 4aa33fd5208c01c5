"""The row of a probe."""

from xorbench.machine.probes.table import Probe

HALVING = Probe(
    "halving", "halves of whole numbers", check="xorbench_extension.halving:halves_are_exact"
)
