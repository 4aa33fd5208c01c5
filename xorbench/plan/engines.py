"""The engines by name: what each is, and which settings it cannot honour. Standard library only."""

from dataclasses import dataclass, replace
from typing import Final, Literal

from xorbench.errors import BadOption
from xorbench.plan.case import Case, device_type
from xorbench.plan.recipe import Recipe

Form = Literal["reference", "universal"]
UNIVERSAL_HIDDEN: Final = 4
UNIVERSAL_VISITS: Final = 25_000_000  # of one training: an order of points is kept for each epoch


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
        Engine("universal", "the universal form in its compiled kernel", form="universal"),
    )
}


def form_of(case: Case) -> Form:
    """Whose bits this case has."""
    return ENGINE_ROWS[case.engine].form


def yardstick_of(case: Case) -> str:
    """The kind of yardstick that slows as this case does where the machine is busy."""
    return "loader" if ENGINE_ROWS[case.engine].fed_by_loader else "tensor"


def inputs_name(case: Case) -> str:
    """Cases with one name of their inputs start from the same points and weights, bit for bit."""
    form = " universal" if form_of(case) == "universal" else ""
    return f"seed {case.seed}{form}" + (" float64" if case.dtype == "float64" else "")


def exact_twin(case: Case) -> bool:
    """Whether its training in double precision, of `workload.float64`, has its order of points."""
    kept = case.persistent_workers and case.num_workers > 0  # draws its base seed once
    return form_of(case) == "reference" and not kept


def traced(case: Case) -> Case:
    """The case as a trace follows it: an exact engine has the bits of the loader's own steps.

    Raises `BadOption` for an engine whose steps are another computation.
    """
    engine = ENGINE_ROWS[case.engine]
    if engine.form != "reference" or not engine.exact:
        raise BadOption(
            f"CASE: the steps of the {engine.name} engine cannot be traced", "the loader's can"
        )
    return replace(case, engine="loader")


def unable(case: Case, recipe: Recipe) -> str:
    """Why a setting of this case cannot be honoured; empty where all can be.

    Such a case is skipped with this reason: it is never trained without its setting.
    """
    engine = ENGINE_ROWS[case.engine]
    if case.num_workers and not engine.fed_by_loader:
        return f"the {engine.name} engine has no loader processes"
    if case.data_on_device and device_type(case.device) != "cpu":
        if case.num_workers:
            return "loader processes cannot fetch from data on the device"
        if case.pin_memory:
            return "only host memory can be pinned, and the data are on the device"
    return _unable_universal(case, recipe) if engine.form == "universal" else ""


def _unable_universal(case: Case, recipe: Recipe) -> str:
    reasons = (
        (case.dtype != "float32", f"no dtype but float32, not {case.dtype}"),
        (case.optimizer != "default", f"one update of its own, not {case.optimizer}"),
        (
            recipe.hidden != UNIVERSAL_HIDDEN,
            f"{UNIVERSAL_HIDDEN} hidden units, not {recipe.hidden}",
        ),
        (
            recipe.epochs * recipe.train_size > UNIVERSAL_VISITS,
            f"at most {UNIVERSAL_VISITS:,} visits of points",
        ),
    )
    found = next((what for applies, what in reasons if applies), "")
    return f"the universal form has {found}" if found else ""
