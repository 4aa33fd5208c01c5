"""The observations of a run, arranged by variant."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TypeVar

from xorbench.records.schema.golden import Float64Reference
from xorbench.records.schema.phases import PhasesLine
from xorbench.records.schema.process import process_order, slot_of
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import (
    CalibrationLine,
    EpochLine,
    Failure,
    TrainingRecord,
    Unfinished,
)
from xorbench.xor.analysis import clocks
from xorbench.xor.matrix.case import ProcessConfig, Variant, variant_id, with_index

AnyRecord = TypeVar("AnyRecord")
TrainingOutcome = TrainingRecord | Failure | Unfinished


class Evidence:
    """A run's finished trainings by variant, in the order of its plan."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._configs = {config.id: config for config in run.info.configs}

    @cached_property
    def variants(self) -> list[Variant]:
        """The variants that finished in at least one process."""
        return [variant for variant in self.planned if variant.id in self.trainings]

    @cached_property
    def planned(self) -> list[Variant]:
        """All variants of the plan."""
        info = self.run.info
        return [
            Variant(case, config, info.recipe) for config in info.configs for case in info.cases
        ]

    @cached_property
    def trainings(self) -> dict[str, list[TrainingRecord]]:
        """Finished trainings by variant id, ordered by process."""
        trainings = sorted(self.run.trainings, key=lambda training: process_order(training.process))
        return _grouped(trainings, lambda record: self.variant(record).id)

    @cached_property
    def timed(self) -> dict[str, list[TrainingRecord]]:
        """The finished trainings with valid times."""
        return {
            name: [x for x in trainings if not any(clocks.flaws(self.epochs(x)))]
            for name, trainings in self.trainings.items()
        }

    @cached_property
    def uncalibrated(self) -> set[str]:
        """The processes with invalid times of calibration workloads."""
        by_process = self.calibrations.items()
        return {name for name, lines in by_process if any(clocks.calibration_flaws(lines))}

    @cached_property
    def failures(self) -> dict[str, list[Failure]]:
        """Failures by variant id."""
        return _grouped(self.run.failures, lambda record: self.variant(record).id)

    @cached_property
    def unfinished(self) -> dict[str, list[Unfinished]]:
        """The unfinished trainings by variant id."""
        return _grouped(self.run.unfinished, lambda record: self.variant(record).id)

    def epoch_weights(self, training: TrainingRecord) -> list[str | None]:
        """The recorded weights after each epoch of a training, from all its processes."""
        return [line.weights for line in self.epochs(training)]

    def epochs(self, training: TrainingRecord) -> list[EpochLine]:
        """The observed epochs of a training; empty if they were not recorded."""
        key = training.case.id, slot_of(training.process), False
        return self.run.epochs_by_training.get(key, [])

    @cached_property
    def calibrations(self) -> dict[str, dict[str, list[CalibrationLine]]]:
        """The calibrations of each process by device and kind, in order of time."""
        by_process = _grouped(self.run.calibrations, lambda line: line.process)
        return {
            process: _grouped(lines, lambda line: f"{line.device}, {line.kind}")
            for process, lines in by_process.items()
        }

    @cached_property
    def float64(self) -> dict[tuple[object, str], Float64Reference]:
        """Float64 references by the settings that affect them and the epoch digests."""
        return {(tuple(line.key), line.epochs_sha256): line for line in self.run.float64}

    @cached_property
    def phases(self) -> dict[str, list[PhasesLine]]:
        """The passes that timed phases, by variant id, ordered by process."""
        configs = {process.id: process.config for process in self.run.info.processes}
        cases = {case.id: case for case in self.run.info.cases}
        lines = sorted(self.run.phases, key=lambda line: process_order(line.process))
        return _grouped(lines, lambda line: variant_id(cases[line.case], configs[line.process]))

    def training_of(self, line: PhasesLine) -> TrainingRecord | None:
        """The training with the case and slot of a pass; None if it has not finished."""
        return self._by_slot.get((line.case, slot_of(line.process)))

    @cached_property
    def _by_slot(self) -> dict[tuple[str, str], TrainingRecord]:
        return {(x.case.id, slot_of(x.process)): x for x in self.run.trainings}

    def common_model(self, a: str, b: str) -> str:
        """The common model of two accelerators; empty if the models differ or are unknown."""
        models = {self._models.get(with_index(device), "") for device in (a, b)}
        return models.pop() if len(models) == 1 else ""

    @cached_property
    def _models(self) -> dict[str, str]:
        """The model name of each accelerator of the run."""
        devices = [d for p in self.run.info.processes for d in p.machine.get("devices", [])]
        return {device["device"]: device.get("name", "") for device in devices}

    def variant(self, record: TrainingOutcome) -> Variant:
        """The variant of a record."""
        config = self._configs.get(record.config, ProcessConfig())
        return Variant(record.case, config, self.run.info.recipe)

    def first(self, variant: Variant) -> TrainingRecord:
        """The variant's first finished training."""
        return self.trainings[variant.id][0]


def _grouped(
    records: Iterable[AnyRecord], name: Callable[[AnyRecord], str]
) -> dict[str, list[AnyRecord]]:
    groups: dict[str, list[AnyRecord]] = {}
    for record in records:
        groups.setdefault(name(record), []).append(record)
    return groups
