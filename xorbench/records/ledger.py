"""Validates that each line belongs to this run, case, process and epoch, without duplicates.

A duplicate line, or a line of another run, would be counted as additional evidence.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any, Final

import msgspec

from xorbench import state_digest
from xorbench.errors import BadFile
from xorbench.records.schema.golden import Float64Reference, GoldenInputs
from xorbench.records.schema.line import Line
from xorbench.records.schema.phases import PhasesLine
from xorbench.records.schema.process import slot_of, slots
from xorbench.records.schema.run import EpochsByTraining, RunInfo
from xorbench.records.schema.training import (
    CalibrationLine,
    EpochLine,
    Failure,
    Skip,
    TrainingEnd,
    TrainingRecord,
    Unfinished,
    WeightRecord,
)
from xorbench.xor.matrix.engines import CALIBRATIONS_PER_ROUND, calibration_key

HINT: Final = "restore the file that the run wrote: each line counts as evidence once"


class Ledger:
    """Checks the lines of one run in turn, and groups the epochs by training."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._cases = {case.id for case in info.cases}
        self._slots = slots(info.configs, info.processes_per_config)
        self._configs = {slot: config.id for slot, config, _ in self._slots}
        self._processes = {process.id for process in info.processes}
        if len(self._processes) < len(info.processes):
            raise _damaged("run.json", "a process occurs twice")
        self.epochs: EpochsByTraining = {}
        self._ended: dict[object, str] = {}
        self._checks: dict[type[Line], Callable[[str, Any], None]] = {
            EpochLine: self._epoch,
            CalibrationLine: self._calibration,
            TrainingEnd: self._training,
            Failure: self._require_ending,
            Skip: self._skip,
            Float64Reference: self._float64,
            GoldenInputs: self._golden_inputs,
            PhasesLine: self._phases,
        }

    def enter(self, place: str, line: Line) -> None:
        """Check a line against the run and the lines before it; raises `BadFile` with its place."""
        require_own(place, self._info.id, line)
        if check := self._checks.get(type(line)):
            check(place, line)

    def unfinished(self, skips: Iterable[Skip]) -> list[Unfinished]:
        """The planned trainings that have neither ended nor been skipped."""
        skipped = {skip.case.id for skip in skips}
        return [
            Unfinished(
                case=case,
                slot=slot,
                config=config.id,
                epochs=len(self.epochs.get((case.id, slot, False), ())),
            )
            for slot, config, _ in self._slots
            for case in self._info.cases
            if case.id not in skipped and (case.id, slot) not in self._ended
        ]

    def _epoch(self, place: str, line: EpochLine) -> None:
        """Require the next epoch of the training."""
        self._require_known(place, line.case, line.process)
        before = self.epochs.setdefault((line.case, slot_of(line.process), line.warmup), [])
        if line.epoch < len(before):
            raise _damaged(place, f"epoch {line.epoch} of {line.case} occurs twice")
        if line.epoch > len(before):
            raise _damaged(place, f"epoch {line.epoch} of {line.case} follows {len(before) - 1}")
        before.append(line)

    def _calibration(self, place: str, line: CalibrationLine) -> None:
        self._require_process(place, line.process)

    def _training(self, place: str, line: TrainingEnd) -> None:
        """Require the planned case and config, and all epochs, of a training."""
        self._require_ending(place, line)
        slot, recipe = slot_of(line.process), self._info.recipe
        epochs = self.epochs.get((line.case.id, slot, False), [])
        flaws = (
            (line.case not in self._info.cases, f"no case {line.case.id} in run.json"),
            (self._configs.get(slot) != line.config, "the config differs from the plan"),
            (len(epochs) != recipe.epochs, f"{len(epochs)} epochs of {recipe.epochs}"),
            (len(line.predictions) != recipe.test_size, "a prediction is missing"),
            (not _has_weights(epochs, line), "weights of epochs.jsonl have a different digest"),
        )
        for flawed, flaw in flaws:
            if flawed:
                raise _damaged(place, flaw)

    def _skip(self, place: str, line: Skip) -> None:
        self._require_once(place, line.case.id, f"{line.case.id} is skipped")

    def _float64(self, place: str, line: Float64Reference) -> None:
        self._require_known(place, line.case, line.process)
        recipe = self._info.recipe
        if (len(line.weights), len(line.predictions)) != (recipe.epochs, recipe.test_size):
            raise _damaged(place, "the number of epochs or test points differs from the recipe")
        key = ("float64", str(line.key), line.epochs_sha256)
        self._require_once(place, key, f"float64 of {line.case}")

    def _golden_inputs(self, place: str, line: GoldenInputs) -> None:
        self._require_process(place, line.process)
        if line.seed not in {case.seed for case in self._info.cases}:
            raise _damaged(place, f"no case of seed {line.seed} in run.json")
        key = ("inputs", line.process, line.seed)
        self._require_once(place, key, f"seed {line.seed} in {line.process}")

    def _phases(self, place: str, line: PhasesLine) -> None:
        self._require_known(place, line.case, line.process)
        slot = slot_of(line.process)
        self._require_once(place, ("phases", line.case, slot), f"phases of {line.case} in {slot}")

    def _require_ending(self, place: str, line: TrainingEnd | Failure) -> None:
        self._require_known(place, line.case.id, line.process)
        slot = slot_of(line.process)
        self._require_once(place, (line.case.id, slot), f"{line.case.id} in {slot}")

    def _require_known(self, place: str, case: str, process: str) -> None:
        if case not in self._cases:
            raise _damaged(place, f"no case {case} in run.json")
        self._require_process(place, process)

    def _require_process(self, place: str, process: str) -> None:
        if process not in self._processes:
            raise _damaged(place, f"no process {process} in run.json")

    def _require_once(self, place: str, key: object, subject: str) -> None:
        if key in self._ended:
            raise _damaged(place, f"{subject} occurs twice, first in {self._ended[key]}")
        self._ended[key] = place.rsplit("/", 1)[-1]


class CalibrationTimes:
    """The calibration times of a run's processes, in order of measurement."""

    def __init__(self, lines: Iterable[CalibrationLine]) -> None:
        self._times: dict[tuple[str, tuple[str, str]], tuple[list[float], list[float]]] = {}
        for line in lines:
            if not line.cold:
                key = line.process, (line.device, line.kind)
                at_s, seconds = self._times.setdefault(key, ([], []))
                at_s.append(line.at_s)
                seconds.append(line.calibration_s)

    def before(self, epoch: EpochLine, key: tuple[str, str]) -> float | None:
        """The median of the last times before the epoch's end, about those of one round."""
        at_s, seconds = self._times.get((epoch.process, key), ([], []))
        end = bisect_right(at_s, epoch.at_s)
        latest = seconds[max(0, end - CALIBRATIONS_PER_ROUND) : end]
        return median(latest) if latest else None


def training_record(
    end: TrainingEnd, epochs: EpochsByTraining, calibrations: CalibrationTimes
) -> TrainingRecord:
    """A finished training with its epochs; raises `ValueError` for a time that is not positive."""
    key, slot = calibration_key(end.case), slot_of(end.process)
    timed, warmup = (epochs.get((end.case.id, slot, warm), []) for warm in (False, True))
    return TrainingRecord(
        **msgspec.structs.asdict(end),
        epoch_s=[line.epoch_s for line in timed],
        calibration_s=[calibrations.before(line, key) for line in timed],
        losses=[line.loss for line in timed],
        epoch_digests=[line.digest for line in timed],
        warmup_epoch_s=[line.epoch_s for line in warmup],
        warmup_epoch_digests=[line.digest for line in warmup],
    )


def require_own(place: str, run: str, line: Line) -> None:
    """Raise `BadFile` for a line of another run."""
    if line.run != run:
        raise _damaged(place, f"belongs to run {line.run or '(none)'}, not to {run}")


def _damaged(place: str, flaw: str) -> BadFile:
    return BadFile(f"{place}: damaged: {flaw}", HINT)


def _has_weights(epochs: list[EpochLine], line: TrainingEnd) -> bool:
    """Whether the recorded weights after each epoch, if any, have the recorded digests."""
    if not line.weights or all(epoch.weights is None for epoch in epochs):
        return True
    return all(_sha256(epoch.weights or "", line.weights) == epoch.digest for epoch in epochs)


def _sha256(weights: str, like: Mapping[str, WeightRecord]) -> str:
    """The digest of flat weights in hex, split as in a `state_dict`; empty if they do not fit."""
    try:
        content = bytes.fromhex(weights)
    except ValueError:
        return ""
    entries, offset = [], 0
    for name, tensor in like.items():
        size = len(tensor.hex) // 2
        entries.append((name, tensor.dtype, tensor.shape, content[offset : offset + size]))
        offset += size
    return state_digest.sha256(entries) if offset == len(content) else ""
