"""Expand axis values into cases and process configs."""

from dataclasses import replace
from itertools import groupby, product
from math import prod
from operator import itemgetter
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.xor.matrix.axes import AXES, CASE_AXES, CONFIG_AXES, Axis, value_text
from xorbench.xor.matrix.case import Case, ProcessConfig, Variant
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.recipe import Recipe, require_batches

BIGGEST_MATRIX: Final = 100_000
CONTROL_BATCH_SIZE: Final = 125  # divides the 2,500 default points, so drop_last has no effect
CONTROL_LOADER_WORKERS: Final = 2
STRESSES: Final = ("cpu", "memory", "accelerator")  # kinds of load during a run


def expand(recipe: Recipe, given: dict[str, tuple[Any, ...]], *, quick: bool) -> tuple[Case, ...]:
    """Every combination of the axis values. Raises `BadOption` for an invalid case.

    `given` holds the axes that the user specified. Without batch sizes and loader workers among
    them, each device also gets control cases, which vary these settings once.
    """
    values = [_values(axis, given, quick) for axis in CASE_AXES]
    size = prod(map(len, values))
    if size > BIGGEST_MATRIX:
        raise BadOption(
            f"--seeds: {size:,} cases exceed the limit of {BIGGEST_MATRIX:,}", "use fewer values"
        )
    names = [axis.name for axis in CASE_AXES]
    cases = [Case(**dict(zip(names, cell, strict=True))) for cell in product(*values)]
    if not quick and not {"batch_size", "num_workers"} & given.keys():
        cases += _controls(recipe, cases)
    for case in cases:
        require_batches(recipe, case.batch_size, case.drop_last)
    return tuple(dict.fromkeys(cases))


def expand_configs(given: dict[str, tuple[Any, ...]]) -> tuple[ProcessConfig, ...]:
    """Every combination of the process-level axis values."""
    names = [axis.name for axis in CONFIG_AXES]
    values = [_values(axis, given, quick=False) for axis in CONFIG_AXES]
    return tuple(ProcessConfig(**dict(zip(names, cell, strict=True))) for cell in product(*values))


def _values(axis: Axis, given: dict[str, tuple[Any, ...]], quick: bool) -> tuple[Any, ...]:
    if axis.name in given:
        return given[axis.name]
    return axis.quick if quick and axis.quick is not None else axis.default


def _controls(recipe: Recipe, cases: list[Case]) -> list[Case]:
    """A dividing batch size with and without drop_last, and loader workers, per device."""
    firsts = {case.device: case for case in reversed(cases)}
    controls = []
    for case in reversed(firsts.values()):
        plain = replace(case, pin_memory=False, num_workers=0, non_blocking=False)
        if recipe.train_size % CONTROL_BATCH_SIZE == 0:
            dividing = replace(plain, batch_size=CONTROL_BATCH_SIZE)
            controls += [replace(dividing, drop_last=drop) for drop in (True, False)]
        if ENGINES[plain.engine].fed_by_loader:
            controls.append(replace(plain, batch_size=128, num_workers=CONTROL_LOADER_WORKERS))
    return controls


def edges(variants: list[Variant]) -> list[tuple[Axis, list[Variant]]]:
    """The groups of variants that differ in only one axis, each sorted along that axis.

    Text values such as interpreters and variables keep the order of the variants.
    """
    rows = [(variant, tuple(_rank(axis.value(variant)) for axis in AXES)) for variant in variants]
    groups = []
    for i, axis in enumerate(AXES):
        texts = dict.fromkeys(ranks[i] for _, ranks in rows if isinstance(ranks[i][1], str | tuple))
        places = {text: (1, place) for place, text in enumerate(texts)}
        placed = [
            ((*ranks[:i], *ranks[i + 1 :]), places.get(ranks[i], ranks[i]), variant)
            for variant, ranks in rows
        ]
        for _, group in groupby(sorted(placed, key=itemgetter(0, 1)), key=itemgetter(0)):
            members = [variant for *_, variant in group]
            if len(members) > 1:
                groups.append((axis, members))
    return groups


def _rank(value: Any) -> tuple[int, Any]:
    """A sort key that also orders None."""
    return (0, 0) if value is None else (1, value)


def group_name(axis: Axis, members: list[Variant]) -> str:
    """The group's name in reports: the axis values and its first member's id."""
    values = ",".join(value_text(axis.value(member)) for member in members)
    return f"{axis.name} {values}: {members[0].id}"
