"""What the recorder is asked to do: one JSON text in the environment."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

FOLDER_VARIABLE = "XORBENCH_RECORD"  # the folder of the records, absolute; without it nothing runs
OPTIONS_VARIABLE = "XORBENCH_RECORD_OPTIONS"
LARGEST_RECORD = 1 << 30  # bytes
LARGEST_VALUES = 1 << 30  # bytes


class Options(NamedTuple):
    """How a record is made.

    Attributes:
        level: `default`, or `clock` for the time of each step alone.
        detail: the first and the last step that are recorded in detail.
        stop_after: end the run when this many steps are complete.
        max_bytes: the size of a record from which on steps are left out.
        values_bytes: how many bytes of tensors are kept besides, of the steps in detail.
        state: record gradients and the optimizer's state, what else is called, and the value of the
            loss, in every step: what a resumed training must have.
        keep: steps at whose start the bytes of parameters are kept.
        operators: record every operator of the steps in detail.
        generators: record the states of the global generators.
        with_source: keep the text of a line of the program beside its number.
        root: the folder that paths are relative to.
        switches: settings that are made before the program's code runs (`switches.SWITCHES`).
        step_by: `optimizer`, or `backward` where no optimizer of `torch.optim` steps, and only
            the time of each step is recorded.
        threads: make a record for each thread, as several train at the same time.
        die_in_save: end the run within a save: `part` of its bytes, `between` two files, before a
            `rename`.
        notice: report whether it loads data by processes, and whether it compiles.
    """

    level: str = "default"
    detail: tuple[int, int] | None = None
    stop_after: int | None = None
    max_bytes: int = LARGEST_RECORD
    values_bytes: int = 0
    state: bool = False
    keep: tuple[int, ...] = ()
    operators: bool = True
    generators: bool = True
    with_source: bool = False
    root: str = ""
    switches: tuple[str, ...] = ()
    step_by: str = "optimizer"
    threads: bool = False
    die_in_save: str = ""
    notice: bool = False


def read() -> Options:
    """The options in the environment."""
    values: dict[str, Any] = json.loads(os.environ.get(OPTIONS_VARIABLE) or "{}")
    if values.get("detail") is not None:
        values["detail"] = tuple(values["detail"])
    return Options(**values)
