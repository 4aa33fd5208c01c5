"""The row of a fault, with the check that must catch it: `selftest` requires that it does."""

from xorbench.xor.matrix.faults import Fault

NO_BIAS = Fault(
    "no-bias",
    "the output's bias is zero before training",
    kind="training",
    inject="xorbench_extension.bias:no_bias",
    caught_by="inputs",
)
