"""The observations of a run, arranged by variant."""

from functools import cached_property

from xorbench.judge import clocks
from xorbench.observe.records.golden import Float64Reference
from xorbench.observe.records.phases import PhasesLine
from xorbench.observe.records.process import process_order, slot_of
from xorbench.observe.records.run import Run
from xorbench.observe.records.training import (
    CalibrationLine,
    EpochLine,
    Failure,
    TrainingRecord,
    Unfinished,
)
from xorbench.plan.case import ProcessConfig, Variant, variant_id, with_index


class Evidence:
    """A run's finished trainings by variant, in the order of its plan."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._configs = {config.id: config for config in run.info.configs}

    @cached_property
    def variants(self) -> list[Variant]:
        """The variants that finished in at least one process."""
        return [s for s in self.planned if s.id in self.trainings]

    @cached_property
    def planned(self) -> list[Variant]:
        """All variants of the plan."""
        info = self.run.info
        return [Variant(c, s, info.recipe) for s in info.configs for c in info.cases]

    @cached_property
    def trainings(self) -> dict[str, list[TrainingRecord]]:
        """Finished trainings by variant id, ordered by process."""
        found: dict[str, list[TrainingRecord]] = {}
        for training in sorted(self.run.trainings, key=lambda t: process_order(t.process)):
            found.setdefault(self.variant(training).id, []).append(training)
        return found

    @cached_property
    def timed(self) -> dict[str, list[TrainingRecord]]:
        """Those of the finished trainings whose times can be believed."""
        return {
            name: [one for one in trainings if not any(clocks.flaws(self.epochs(one)))]
            for name, trainings in self.trainings.items()
        }

    @cached_property
    def uncalibrated(self) -> set[str]:
        """The processes whose times of calibration workloads cannot be believed."""
        found = self.calibrations.items()
        return {name for name, lines in found if any(clocks.calibration_flaws(lines))}

    @cached_property
    def failures(self) -> dict[str, list[Failure]]:
        """Failures by variant id."""
        found: dict[str, list[Failure]] = {}
        for failure in self.run.failures:
            found.setdefault(self.variant(failure).id, []).append(failure)
        return found

    @cached_property
    def unfinished(self) -> dict[str, list[Unfinished]]:
        """What was not brought to its end, by variant id."""
        found: dict[str, list[Unfinished]] = {}
        for one in self.run.unfinished:
            config = self._configs.get(one.config, ProcessConfig())
            found.setdefault(variant_id(one.case, config), []).append(one)
        return found

    def epoch_weights(self, training: TrainingRecord) -> list[str | None]:
        """What was kept of the weights after each epoch of a training, from all its processes."""
        return [line.weights for line in self.epochs(training)]

    def epochs(self, training: TrainingRecord) -> list[EpochLine]:
        """The epochs of a training as they were observed; none where they were not kept."""
        key = training.case.id, slot_of(training.process), False
        return self.run.epochs_by_training.get(key, [])

    @cached_property
    def calibrations(self) -> dict[str, dict[str, list[CalibrationLine]]]:
        """The calibrations of each process, by device and kind, as they were made."""
        found: dict[str, dict[str, list[CalibrationLine]]] = {}
        for line in self.run.calibrations:
            own = found.setdefault(line.process, {})
            own.setdefault(f"{line.device}, {line.kind}", []).append(line)
        return found

    @cached_property
    def float64(self) -> dict[tuple[object, str], Float64Reference]:
        """Trainings in double precision, by the settings that move them and the epoch digests."""
        return {(tuple(line.key), line.epochs_sha256): line for line in self.run.float64}

    @cached_property
    def phases(self) -> dict[str, list[PhasesLine]]:
        """The passes that timed phases, by variant id, ordered by process."""
        configs = {process.id: process.config for process in self.run.info.processes}
        cases = {case.id: case for case in self.run.info.cases}
        found: dict[str, list[PhasesLine]] = {}
        for line in sorted(self.run.phases, key=lambda line: process_order(line.process)):
            name = variant_id(cases[line.case], configs[line.process])
            found.setdefault(name, []).append(line)
        return found

    def training_of(self, line: PhasesLine) -> TrainingRecord | None:
        """The training whose case and slot a pass has; None where it has not finished."""
        return self._by_slot.get((line.case, slot_of(line.process)))

    @cached_property
    def _by_slot(self) -> dict[tuple[str, str], TrainingRecord]:
        return {(one.case.id, slot_of(one.process)): one for one in self.run.trainings}

    def common_model(self, a: str, b: str) -> str:
        """The model that both accelerators are of; empty where they are not, or it is unknown."""
        models = {self._models.get(with_index(device), "") for device in (a, b)}
        return models.pop() if len(models) == 1 else ""

    @cached_property
    def _models(self) -> dict[str, str]:
        """The name of each accelerator that a process of the run saw."""
        devices = [d for p in self.run.info.processes for d in p.machine.get("devices", [])]
        return {device["device"]: device.get("name", "") for device in devices}

    def variant(self, record: TrainingRecord | Failure) -> Variant:
        """The variant that a record is of."""
        config = self._configs.get(record.config, ProcessConfig())
        return Variant(record.case, config, self.run.info.recipe)

    def first(self, variant: Variant) -> TrainingRecord:
        """The variant's first finished training."""
        return self.trainings[variant.id][0]
