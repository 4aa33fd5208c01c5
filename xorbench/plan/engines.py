"""The engines by name, and what each is. Standard library only.

Which settings an engine honours is in `plan.axes`; `plan.honour` makes rules of it.
"""

from dataclasses import dataclass
from typing import Final, Literal

from xorbench.plan.case import Case

TrainingKind = Literal["pytorch", "universal"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run the training.

    `kind` says which training it runs: bits are compared within one kind only. `exact` engines
    queue the same kernels as the loader engine, so their bits must equal its bits.
    """

    name: str
    about: str
    fed_by_loader: bool = False
    kind: TrainingKind = "pytorch"
    exact: bool = True


ENGINE_ROWS: Final = {
    row.name: row
    for row in (
        Engine("loader", "the tutorials' DataLoader loop: the reference", fed_by_loader=True),
        Engine("fetch", "the same, each batch fetched by one __getitems__", fed_by_loader=True),
        Engine("tensor", "no DataLoader: an epoch is gathered at once, by the loader's draws"),
        Engine("replay", "one step captured as ATen operators and replayed without autograd"),
        Engine("compile", "torch.compile of the step", exact=False),
        Engine("universal", "the universal training in its compiled kernel", kind="universal"),
    )
}


def training_kind(case: Case) -> TrainingKind:
    """Which training this case runs: the PyTorch training or the universal training."""
    return ENGINE_ROWS[case.engine].kind


def calibration_of(case: Case) -> str:
    """The kind of calibration workload that slows down as this case does on a busy machine."""
    return "loader" if ENGINE_ROWS[case.engine].fed_by_loader else "tensor"


def inputs_name(case: Case) -> str:
    """Cases with one name of their inputs start from the same points and weights, bit for bit."""
    kind = " universal" if training_kind(case) == "universal" else ""
    return f"seed {case.seed}{kind}" + (" float64" if case.dtype == "float64" else "")
