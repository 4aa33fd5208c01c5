"""The engines: ways to run the training. Standard library only.

Which settings an engine supports is in `xor.matrix.axes`; `xor.matrix.support` makes rules of it.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from xorbench.registry import Registry
from xorbench.xor.matrix.case import Case

TrainingKind = Literal["pytorch", "universal"]
_NAME = re.compile(r"[a-z]+")  # as it stands in a case's id


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run the training.

    Attributes:
        name: lower-case letters.
        about: what it is, in a few words.
        epoch: `package.module:function`, from a `xor.training.engines.TrainingSpec` to a function
            that trains one epoch and returns its last loss; of the `pytorch` kind only.
        fed_by_loader: batches come from a DataLoader, so its settings are supported.
        kind: which training it runs; bits are compared within one kind only.
        exact: it queues the same kernels as the loader engine, so its bits must be equal.
        unavailable: `package.module:function`, from a device to why the engine cannot train there,
            or None; empty for an engine that needs nothing but PyTorch.
        inseparable: why the phases of its steps cannot be timed apart; empty where they can.
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
            raise ValueError(f"an engine's name is lower-case letters, not {self.name!r}")


CALIBRATIONS_A_ROUND: Final = 3  # one alone wanders by more than the trainings beside it
_IN: Final = "xorbench.xor.training.engines"
ENGINES: Final = Registry(
    "engines",
    Engine,
    (
        Engine(
            "loader",
            "the tutorials' DataLoader loop: the reference",
            f"{_IN}.loaders:loader",
            fed_by_loader=True,
        ),
        Engine(
            "fetch",
            "the same, each batch fetched by one __getitems__",
            f"{_IN}.loaders:fetch",
            fed_by_loader=True,
        ),
        Engine(
            "tensor",
            "no DataLoader: an epoch is gathered at once, by the loader's draws",
            f"{_IN}.loaders:tensor",
            inseparable="a whole epoch is gathered and copied at once",
        ),
        Engine(
            "replay",
            "one step captured as ATen operators and replayed without autograd",
            f"{_IN}.replay:replay",
            inseparable="one captured list of operators is replayed",
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
    """Which training this case runs: the PyTorch training or the universal training."""
    return ENGINES[case.engine].kind


def calibration_key(case: Case) -> tuple[str, str]:
    """Device and kind of the calibration workload that a case's times are divided by.

    The kind is the one that slows down as the case does on a busy machine.
    """
    return case.device, "loader" if ENGINES[case.engine].fed_by_loader else "tensor"


def inputs_name(case: Case) -> str:
    """Cases with one name of their inputs start from the same points and weights, bit for bit."""
    kind = " universal" if training_kind(case) == "universal" else ""
    return f"seed {case.seed}{kind}" + (" float64" if case.dtype == "float64" else "")
