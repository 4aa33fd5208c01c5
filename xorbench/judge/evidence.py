"""The observations of a run, arranged by subject."""

from functools import cached_property

from xorbench.observe.records import (
    EpochLine,
    Failure,
    Float64,
    Run,
    Training,
    Unfinished,
    slot_of,
)
from xorbench.plan.case import Setting, Subject, subject_id


class Evidence:
    """A run's finished trainings by subject, in the order of its plan."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._settings = {setting.id: setting for setting in run.info.settings}

    @cached_property
    def subjects(self) -> list[Subject]:
        """The subjects that finished in at least one worker."""
        return [s for s in self.planned if s.id in self.trainings]

    @cached_property
    def planned(self) -> list[Subject]:
        """All subjects of the plan."""
        info = self.run.info
        return [Subject(c, s, info.recipe) for s in info.settings for c in info.cases]

    @cached_property
    def trainings(self) -> dict[str, list[Training]]:
        """Finished trainings by subject id, ordered by worker."""
        found: dict[str, list[Training]] = {}
        for training in sorted(self.run.trainings, key=lambda t: _worker_order(t.worker)):
            found.setdefault(self.subject(training).id, []).append(training)
        return found

    @cached_property
    def failures(self) -> dict[str, list[Failure]]:
        """Failures by subject id."""
        found: dict[str, list[Failure]] = {}
        for failure in self.run.failures:
            found.setdefault(self.subject(failure).id, []).append(failure)
        return found

    @cached_property
    def unfinished(self) -> dict[str, list[Unfinished]]:
        """What was not brought to its end, by subject id."""
        found: dict[str, list[Unfinished]] = {}
        for one in self.run.unfinished:
            setting = self._settings.get(one.setting, Setting())
            found.setdefault(subject_id(one.case, setting), []).append(one)
        return found

    def epoch_weights(self, training: Training) -> list[str | None]:
        """What was kept of the weights after each epoch of a training, from all its workers."""
        return [line.weights for line in self.epochs(training)]

    def epochs(self, training: Training) -> list[EpochLine]:
        """The epochs of a training as they were observed; none where they were not kept."""
        return self._epochs.get((training.case.id, slot_of(training.worker)), [])

    @cached_property
    def _epochs(self) -> dict[tuple[str, str], list[EpochLine]]:
        found: dict[tuple[str, str], list[EpochLine]] = {}
        for line in self.run.epochs:
            if not line.warmup:
                found.setdefault((line.case, slot_of(line.worker)), []).append(line)
        return found

    @cached_property
    def float64(self) -> dict[tuple[object, str], Float64]:
        """Trainings in double precision, by the settings that move them and the epoch digests."""
        return {(tuple(line.key), line.epochs_sha256): line for line in self.run.float64}

    def subject(self, record: Training | Failure) -> Subject:
        """The subject that a record is of."""
        setting = self._settings.get(record.setting, Setting())
        return Subject(record.case, setting, self.run.info.recipe)

    def first(self, subject: Subject) -> Training:
        """The subject's first finished training."""
        return self.trainings[subject.id][0]


def _worker_order(worker: str) -> tuple[int, ...]:
    return tuple(int(part) for part in worker.removeprefix("w").split("."))


def first_difference(a: list[str], b: list[str]) -> int | None:
    """The first epoch at which two tapes differ, or None where one continues the other."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((epoch for epoch, (x, y) in pairs if x != y), None)
