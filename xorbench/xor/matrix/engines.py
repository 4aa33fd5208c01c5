"""The table of engines. Standard library only.

`xor.matrix.axes` lists the settings that an engine supports; `xor.matrix.support` applies them.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from xorbench.registry import Registry
from xorbench.xor.matrix.case import Case

TrainingKind = Literal["pytorch", "universal"]
_NAME = re.compile(r"[a-z]+")  # as in a case's id


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run the training.

    Attributes:
        name: lower-case letters.
        about: short description.
        epoch: `package.module:function`, from a `xor.training.engines.TrainingSpec` to a function
            that trains one epoch and returns its last loss; only for the `pytorch` kind.
        fed_by_loader: batches come from a DataLoader, so its settings are supported.
        kind: the training it runs; bits are compared within a kind.
        exact: it runs the same kernels as the loader engine, so its bits must be identical.
        unavailable: `package.module:function`, from a device to the reason why the engine cannot
            train on it, or None; empty for an engine that needs only PyTorch.
        inseparable: the reason why the phases of its steps cannot be timed; empty if they can.
    """

    name: str
    about: str
    epoch: str = ""
    fed_by_loader: bool = False
    kind: TrainingKind = "pytorch"
    exact: bool = True
    unavailable: str = ""
    inseparable: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"an engine's name has only lower-case letters, not {self.name!r}")


CALIBRATIONS_PER_ROUND: Final = 3  # a single one drifts more than the trainings of its round
_IN: Final = "xorbench.xor.training.engines"
ENGINES: Final = Registry(
    "engines",
    Engine,
    (
        Engine(
            "loader",
            "DataLoader loop of the tutorials; the reference",
            f"{_IN}.loaders:loader",
            fed_by_loader=True,
        ),
        Engine(
            "fetch",
            "DataLoader loop with one __getitems__ per batch",
            f"{_IN}.loaders:fetch",
            fed_by_loader=True,
        ),
        Engine(
            "tensor",
            "whole epoch gathered at once, without a DataLoader but in its order",
            f"{_IN}.loaders:tensor",
            inseparable="a whole epoch is gathered and copied at once",
        ),
        Engine(
            "replay",
            "one step captured as ATen operators and replayed without autograd",
            f"{_IN}.replay:replay",
            inseparable="a captured list of operators is replayed",
        ),
        Engine(
            "compile",
            "torch.compile of the step",
            f"{_IN}.compiling:compiled",
            exact=False,
            unavailable=f"{_IN}.compiling:unavailable_reason",
            inseparable="a whole epoch is gathered and copied at once",
        ),
        Engine(
            "universal",
            "the universal training in its compiled kernel",
            kind="universal",
            unavailable="xorbench.process.universal_training:unavailable_reason",
            inseparable="one compiled kernel trains the whole epoch",
        ),
    ),
)


def training_kind(case: Case) -> TrainingKind:
    """The training of this case: the PyTorch training or the universal training."""
    return ENGINES[case.engine].kind


def calibration_key(case: Case) -> tuple[str, str]:
    """Device and kind of the calibration workload that normalizes a case's times.

    Under load, this kind slows down like the case.
    """
    return case.device, "loader" if ENGINES[case.engine].fed_by_loader else "tensor"


def inputs_name(case: Case) -> str:
    """The name of a case's inputs; cases with equal names have identical points and weights."""
    kind = " universal" if training_kind(case) == "universal" else ""
    return f"seed {case.seed}{kind}" + (" float64" if case.dtype == "float64" else "")
