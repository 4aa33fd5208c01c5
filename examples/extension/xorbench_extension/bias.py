"""A fault: it alters a training before its first step."""

from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.training.training import Training


def no_bias(training: Training, _fault: FaultSpec) -> None:
    """Take the output's bias away."""
    training.model.layer2.bias.data.zero_()
