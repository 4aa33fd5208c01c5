"""Who supports a case: neither an engine nor a twin trains a case whose setting it would ignore.

The settings table says who supports which setting; a reason here is the text that a user reads.
"""

from dataclasses import replace
from typing import Final

from xorbench.errors import BadOption
from xorbench.xor.matrix.axes import CASE_AXES, FLOAT64, value_text
from xorbench.xor.matrix.case import Case, device_type
from xorbench.xor.matrix.engines import ENGINES, training_kind
from xorbench.xor.matrix.recipe import UNIVERSAL_VISITS, Recipe

UNIVERSAL_HIDDEN: Final = 4


def refusal(case: Case, trainer: str) -> str:
    """What `trainer`, an engine or the float64 twin, does not support; empty where it supports all.

    The text continues a sentence: `does not support momentum 0.9`.
    """
    for axis in CASE_AXES:
        value = getattr(case, axis.name)
        if trainer not in axis.supported_by and value != axis.neutral:
            return axis.refused.format(name=axis.name, value=value_text(value))
    return ""


# Engines


def unsupported_reason(case: Case, recipe: Recipe) -> str:
    """Why the engine of this case cannot train it; empty where it can.

    Such a case is skipped with this reason: it is never trained without its setting.
    """
    if reason := refusal(case, case.engine):
        return f"the {case.engine} engine {reason}"
    return _clash(case) or _beyond_universal(case, recipe)


def _clash(case: Case) -> str:
    """Why two settings of this case exclude each other; empty where none do."""
    if case.data_on_device and device_type(case.device) != "cpu":
        if case.num_workers:
            return "loader workers cannot fetch from data on the device"
        if case.pin_memory:
            return "only host memory can be pinned, and the data are on the device"
    return ""


def _beyond_universal(case: Case, recipe: Recipe) -> str:
    """What of the recipe the universal engine cannot train; empty for every other engine."""
    if training_kind(case) != "universal":
        return ""
    if recipe.hidden != UNIVERSAL_HIDDEN:
        return f"the universal engine has {UNIVERSAL_HIDDEN} hidden units, not {recipe.hidden}"
    if recipe.epochs * recipe.train_size > UNIVERSAL_VISITS:
        return f"the universal engine has at most {UNIVERSAL_VISITS:,} visits of points"
    return ""


def traced(case: Case) -> Case:
    """The case as a trace follows it: an exact engine has the bits of the loader's own steps.

    Raises `BadOption` for an engine whose steps are another computation, and for a setting that the
    loader engine does not support.
    """
    engine = ENGINES[case.engine]
    if engine.kind != "pytorch" or not engine.exact:
        raise BadOption(
            f"CASE: the steps of the {engine.name} engine cannot be traced", "the loader's can"
        )
    if reason := refusal(case, "loader"):
        raise BadOption(f"CASE: cannot be traced: the loader engine {reason}")
    return replace(case, engine="loader")


# The float64 twin


def float64_refusal(case: Case) -> str:
    """Why this case has no float64 twin; empty where the twin can follow the case."""
    if training_kind(case) == "universal":
        return "no float64 twin: the universal training has golden digests instead"
    reason = refusal(case, FLOAT64)
    return f"no float64 twin: it {reason}" if reason else ""


def float64_key(case: Case) -> tuple[tuple[str, object], ...]:
    """The settings that the float64 twin's result depends on, by name, in the table's order.

    Cases with equal keys and equal inputs have one twin. A setting that does nothing in this case
    stands at its neutral value.
    """
    return tuple(
        (axis.name, axis.neutral if axis.idle(case, True) else getattr(case, axis.name))
        for axis in CASE_AXES
        if FLOAT64 in axis.supported_by and axis.changes_float64
    )
