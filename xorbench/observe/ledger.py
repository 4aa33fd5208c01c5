"""Which line belongs where: one run, case, process and epoch each, and none twice.

A line that stands twice, or that another run wrote, would count as more evidence than there is.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from xorbench.errors import BadFile
from xorbench.observe.records.golden import Float64Reference, GoldenInputs
from xorbench.observe.records.line import Line
from xorbench.observe.records.phases import PhasesLine
from xorbench.observe.records.process import slot_of, slots
from xorbench.observe.records.run import RunInfo
from xorbench.observe.records.training import (
    CalibrationLine,
    EpochLine,
    Failure,
    Skip,
    TrainingEnd,
    TrainingRecord,
    WeightRecord,
)
from xorbench.plan import digest

AnyEnd = TypeVar("AnyEnd", bound=TrainingEnd)
HINT: Final = "each line is evidence once: take the file as the run wrote it"


class Ledger:
    """Enters the lines of one run; raises `BadFile`, with the place, for one that cannot be its."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._cases = {case.id for case in info.cases}
        self._planned = {
            name: s.id for name, s, _ in slots(info.configs, info.processes_per_config)
        }
        self._processes = {process.id for process in info.processes}
        if len(self._processes) < len(info.processes):
            raise _damaged("run.json", "a process stands twice")
        self._epochs: dict[tuple[str, str, bool], list[EpochLine]] = {}
        self._ended: dict[object, str] = {}

    def epoch(self, place: str, line: EpochLine) -> EpochLine:
        """An epoch: of a planned case and a known process, and the next of its training."""
        self._require_known(place, line.case, line.process)
        before = self._epochs.setdefault((line.case, slot_of(line.process), line.warmup), [])
        if line.epoch < len(before):
            raise _damaged(place, f"epoch {line.epoch} of {line.case} stands twice")
        if line.epoch > len(before):
            raise _damaged(place, f"epoch {line.epoch} of {line.case} follows {len(before) - 1}")
        before.append(line)
        return line

    def calibration(self, place: str, line: CalibrationLine) -> CalibrationLine:
        """A calibration, of a known process."""
        if line.process not in self._processes:
            raise _damaged(place, f"no process {line.process} in run.json")
        return line

    def epochs_of(self, end: TrainingEnd, *, warmup: bool = False) -> list[EpochLine]:
        """The lines of a training's epochs, in whichever process of its slot."""
        return self._epochs.get((end.case.id, slot_of(end.process), warmup), [])

    def training(self, place: str, line: AnyEnd) -> AnyEnd:
        """The end of a training: its case and config are planned, its epochs are there."""
        self._require_ending(place, line)
        epochs = self._info.recipe.epochs
        old = line if isinstance(line, TrainingRecord) else None
        found = len(old.epoch_digests) if old else len(self.epochs_of(line))
        flaws = (
            (line.case not in self._info.cases, f"no case {line.case.id} in run.json"),
            (
                self._planned.get(slot_of(line.process)) != line.config,
                "another config than planned",
            ),
            (found != epochs, f"{found} epochs of {epochs}"),
            (old and not self._has_epochs_of(old), "its epochs are not those of epochs.jsonl"),
            (len(line.predictions) != self._info.recipe.test_size, "a prediction is missing"),
            (not self._has_weights_of(line), "weights of epochs.jsonl have another digest"),
        )
        for flawed, what in flaws:
            if flawed:
                raise _damaged(place, what)
        return line

    def _has_epochs_of(self, line: TrainingRecord) -> bool:
        """Whether `epochs.jsonl`, where it was kept, has what a whole record of version 3 has."""
        observed = [(one.digest, one.epoch_s) for one in self.epochs_of(line)]
        said = list(zip(line.epoch_digests, line.epoch_s, strict=True))
        return not self._epochs or observed == said

    def _has_weights_of(self, line: TrainingEnd) -> bool:
        """Whether the weights after each epoch, where they were kept, have the recorded digests."""
        epochs = self.epochs_of(line)
        kept = [one for one in epochs if one.weights is not None]
        if not kept or not line.weights:
            return True
        return len(kept) == len(epochs) and all(
            _sha256(one.weights or "", line.weights) == one.digest for one in kept
        )

    def failure(self, place: str, line: Failure) -> Failure:
        """A case that was lost in a process."""
        self._require_ending(place, line)
        return line

    def skip(self, place: str, line: Skip) -> Skip:
        """A case that was not trained."""
        require_own(place, self._info.id, line)
        self._require_once(place, line.case.id, f"{line.case.id} is skipped")
        return line

    def float64(self, place: str, line: Float64Reference) -> Float64Reference:
        """A training in double precision."""
        self._require_known(place, line.case, line.process)
        recipe = self._info.recipe
        if (len(line.weights), len(line.predictions)) != (recipe.epochs, recipe.test_size):
            raise _damaged(place, "not of as many epochs or test points as the recipe's")
        key = ("float64", str(line.key), line.epochs_sha256)
        self._require_once(place, key, f"float64 of {line.case}")
        return line

    def golden_inputs(self, place: str, line: GoldenInputs) -> GoldenInputs:
        """What a process draws for a seed."""
        if line.process not in self._processes:
            raise _damaged(place, f"no process {line.process} in run.json")
        if line.seed not in {case.seed for case in self._info.cases}:
            raise _damaged(place, f"no case of seed {line.seed} in run.json")
        key = ("inputs", line.process, line.seed)
        self._require_once(place, key, f"seed {line.seed} in {line.process}")
        return line

    def phases(self, place: str, line: PhasesLine) -> PhasesLine:
        """The pass over a case in a slot."""
        self._require_known(place, line.case, line.process)
        slot = slot_of(line.process)
        self._require_once(place, ("phases", line.case, slot), f"phases of {line.case} in {slot}")
        return line

    def _require_ending(self, place: str, line: TrainingEnd | Failure) -> None:
        require_own(place, self._info.id, line)
        self._require_known(place, line.case.id, line.process)
        what = f"{line.case.id} in {slot_of(line.process)}"
        self._require_once(place, (line.case.id, slot_of(line.process)), what)

    def _require_known(self, place: str, case: str, process: str) -> None:
        if case not in self._cases:
            raise _damaged(place, f"no case {case} in run.json")
        if process not in self._processes:
            raise _damaged(place, f"no process {process} in run.json")

    def _require_once(self, place: str, key: object, what: str) -> None:
        if key in self._ended:
            raise _damaged(place, f"{what} stands twice, first in {self._ended[key]}")
        self._ended[key] = place.rsplit("/", 1)[-1]


def require_own(place: str, run: str, line: Line) -> None:
    """Raise `BadFile` for a line of another run."""
    if line.run != run:
        raise _damaged(place, f"a line of run {line.run or '(none)'}, not of {run}")


def _damaged(place: str, what: str) -> BadFile:
    return BadFile(f"{place}: damaged: {what}", HINT)


def _sha256(weights: str, like: Mapping[str, WeightRecord]) -> str:
    """The digest of flat weights in hex, cut as the tensors of a `state_dict`; empty where not."""
    try:
        content = bytes.fromhex(weights)
    except ValueError:
        return ""
    entries, at = [], 0
    for name, tensor in like.items():
        size = len(tensor.hex) // 2
        entries.append((name, tensor.dtype, tensor.shape, content[at : at + size]))
        at += size
    return digest.sha256(entries) if at == len(content) else ""
