"""Which engine and float64 reference support a case; a case with an unsupported setting is refused.

The table of axes lists the supported settings. Reasons are messages for the user.
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
    """The setting that `trainer`, an engine or the float64 reference, does not support, or empty.

    The text is a predicate, such as `does not support momentum 0.9`.
    """
    for axis in CASE_AXES:
        value = getattr(case, axis.name)
        if trainer not in axis.supported_by and value != axis.neutral:
            return axis.refused.format(name=axis.name, value=value_text(value))
    return ""


# Engines


def unsupported_reason(case: Case, recipe: Recipe) -> str:
    """The reason why the engine of this case cannot train it; empty if it can.

    Such a case is skipped with this reason, and never trained without its setting.
    """
    if reason := refusal(case, case.engine):
        return f"the {case.engine} engine {reason}"
    return _clash(case) or _beyond_universal(case, recipe)


def _clash(case: Case) -> str:
    """The reason why two settings of this case exclude each other, or empty."""
    if case.data_on_device and device_type(case.device) != "cpu":
        if case.num_workers:
            return "loader workers cannot fetch from data on the device"
        if case.pin_memory:
            return "only host memory can be pinned, and the data are on the device"
    return ""


def _beyond_universal(case: Case, recipe: Recipe) -> str:
    """The part of the recipe that the universal engine does not support, or empty."""
    if training_kind(case) != "universal":
        return ""
    if recipe.hidden != UNIVERSAL_HIDDEN:
        return f"the universal engine has {UNIVERSAL_HIDDEN} hidden units, not {recipe.hidden}"
    if recipe.epochs * recipe.train_size > UNIVERSAL_VISITS:
        return f"the universal engine supports at most {UNIVERSAL_VISITS:,} visits of points"
    return ""


def traced(case: Case) -> Case:
    """The case with the loader engine, whose steps are bitwise identical to any exact engine's.

    Raises `BadOption` for an inexact engine, and for a setting that the loader engine does not
    support.
    """
    engine = ENGINES[case.engine]
    if engine.kind != "pytorch" or not engine.exact:
        raise BadOption(
            f"CASE: the steps of the {engine.name} engine cannot be traced",
            "use the loader engine",
        )
    if reason := refusal(case, "loader"):
        raise BadOption(f"CASE: cannot be traced: the loader engine {reason}")
    return replace(case, engine="loader")


# The float64 reference


def float64_refusal(case: Case) -> str:
    """The reason why this case has no float64 reference, or empty."""
    if training_kind(case) == "universal":
        return "no float64 reference: the universal training has golden digests instead"
    reason = refusal(case, FLOAT64)
    return f"no float64 reference: it {reason}" if reason else ""


def float64_key(case: Case) -> tuple[tuple[str, object], ...]:
    """The settings that the float64 reference depends on, by name, in the order of the table.

    Cases with equal keys and inputs share a reference. A setting without effect in this case has
    its neutral value.
    """
    return tuple(
        (axis.name, axis.neutral if axis.idle(case, True) else getattr(case, axis.name))
        for axis in CASE_AXES
        if FLOAT64 in axis.supported_by and axis.changes_float64
    )
