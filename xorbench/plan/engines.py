"""The engines by name, and what each is. Standard library only.

Which settings an engine honours stands in the axes table; `plan.honour` makes rules of it.
"""

from dataclasses import dataclass
from typing import Final, Literal

from xorbench.plan.case import Case

Form = Literal["reference", "universal"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run the training.

    `form` is whose bits it has: they are compared within one form. `exact` engines queue the very
    kernels of the loader engine, so that their bits must be its bits.
    """

    name: str
    about: str
    fed_by_loader: bool = False
    form: Form = "reference"
    exact: bool = True


ENGINE_ROWS: Final = {
    row.name: row
    for row in (
        Engine("loader", "the tutorials' DataLoader loop: the reference", fed_by_loader=True),
        Engine("fetch", "the same, each batch fetched by one __getitems__", fed_by_loader=True),
        Engine("tensor", "no DataLoader: an epoch is gathered at once, by the loader's draws"),
        Engine("replay", "one step captured as ATen operators and replayed without autograd"),
        Engine("compile", "torch.compile of the step", exact=False),
        Engine("universal", "the universal training in its compiled kernel", form="universal"),
    )
}


def form_of(case: Case) -> Form:
    """Whose bits this case has."""
    return ENGINE_ROWS[case.engine].form


def calibration_of(case: Case) -> str:
    """The kind of calibration workload that slows as this case does where the machine is busy."""
    return "loader" if ENGINE_ROWS[case.engine].fed_by_loader else "tensor"


def inputs_name(case: Case) -> str:
    """Cases with one name of their inputs start from the same points and weights, bit for bit."""
    form = " universal" if form_of(case) == "universal" else ""
    return f"seed {case.seed}{form}" + (" float64" if case.dtype == "float64" else "")
