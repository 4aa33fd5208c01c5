"""The options of the recorder: one JSON text in the environment."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

FOLDER_VARIABLE = "XORBENCH_RECORD"  # absolute folder of the records; unset: no recording
OPTIONS_VARIABLE = "XORBENCH_RECORD_OPTIONS"
LARGEST_RECORD = 1 << 30  # bytes
LARGEST_VALUES = 1 << 30  # bytes


class Options(NamedTuple):
    """How a record is made.

    Attributes:
        level: `default`, or `clock` to record only the time of each step.
        detail: the first and the last step with detailed recording.
        stop_after: end the run after this many complete steps.
        kill: let the supervisor kill the whole run after these steps, not only end this process.
        max_bytes: the size of a record beyond which steps are not recorded.
        values_bytes: how many bytes of tensors to keep from the steps with detailed recording.
        state: record gradients, optimizer state, untrained models and the loss value in every
            step, to check a resumed training.
        keep: steps at whose start the bytes of parameters are kept.
        operators: record every operator of the steps with detailed recording.
        generators: record the states of the global generators.
        with_source: keep the source line of the program next to its number.
        root: the folder that paths are relative to.
        switches: settings applied before the program's code runs (`switches.SWITCHES`).
        step_by: with the level `clock`, `backward` if no optimizer of `torch.optim` steps.
        threads: make a record for each thread, for threads that train at the same time.
        die_in_save: end the run within a save: after `part` of its bytes, `between` two files,
            after a part of the `second` file, or before a `rename`.
        turns: with the level `clock`, the folder of the FIFOs of a training that runs turn by turn.
        turn_steps: the steps of its first turn.
        samples: record a digest of each row of a batch.
        sketches: record sketches, outputs, gradients and decisions in every step.
        noise: the seed of the noise of rounding in every operator; None for no noise.
        keep_states: the folder in which the state at the start of each step is stored.
        start_from: the folder from which each step after the first loads its state.
        judge: steps whose operators are compared with references.
        notice: report whether the program uses loader processes, and whether it compiles.
    """

    level: str = "default"
    detail: tuple[int, int] | None = None
    stop_after: int | None = None
    kill: bool = False
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
    samples: bool = False
    sketches: bool = False
    noise: int | None = None
    keep_states: str = ""
    start_from: str = ""
    notice: bool = False
    turns: str = ""
    turn_steps: int = 1
    judge: tuple[int, ...] = ()


def read() -> Options:
    """The options in the environment."""
    values: dict[str, Any] = json.loads(os.environ.get(OPTIONS_VARIABLE) or "{}")
    if values.get("detail") is not None:
        values["detail"] = tuple(values["detail"])
    return Options(**values)
