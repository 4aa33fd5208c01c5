"""A fault: it alters a training before its first step."""

from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.training.training import Training


def no_bias(training: Training, _fault: FaultSpec) -> None:
    """Set the bias of the output layer to zero."""
    training.model.layer2.bias.data.zero_()
