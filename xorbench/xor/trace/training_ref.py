"""References to a training on the command line: a case, a case of a run, or a trace."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xorbench.errors import BadOption
from xorbench.records import folders, loading
from xorbench.records import trace as traces
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import TrainingRecord
from xorbench.records.trace import CaseTrace
from xorbench.runtime.slots import ProcessSlot, make_slots
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.case import Case, ProcessConfig, Variant, spelled_out, variant_id
from xorbench.xor.matrix.case_ids import read_variant
from xorbench.xor.matrix.faults import FaultSpec, read_fault
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS, Recipe
from xorbench.xor.trace import retrain
from xorbench.xor.trace.retrain import Retraining


@dataclass(frozen=True, slots=True)
class TrainingRef:
    """A training that can be repeated, and its record.

    Attributes:
        label: its name in reports.
        name: the arguments of `trace` for this training, quoted for a shell.
        epoch_digests: its recorded digests by epoch.
        faults: the texts of its injected faults.
    """

    label: str
    name: str
    case: Case
    config: ProcessConfig
    recipe: Recipe
    faults: tuple[str, ...] = ()
    index: int = 0
    inputs_sha256: str = ""
    epoch_digests: Mapping[int, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    trace: CaseTrace | None = None

    @property
    def variant(self) -> str:
        """The id of the case and config."""
        return variant_id(self.case, self.config)

    @property
    def steps(self) -> int:
        """Number of steps per epoch."""
        return self.recipe.steps(self.case.batch_size, self.case.drop_last)

    def injected(self) -> list[FaultSpec]:
        """The faults to inject in this training."""
        read = map(read_fault, self.faults)
        return [fault for fault in read if fault.hits(self.case, self.config, self.index, "timed")]

    def opened(self, slot: ProcessSlot, *, recorded: bool = False) -> Retraining:
        """The training in the process of a slot. Raises `ProcessDied`, `OperationFailed`."""
        return retrain.opened(slot, self.case, self.recipe, self.injected(), recorded=recorded)

    def slot(self, name: str) -> ProcessSlot:
        """An empty slot for a process with this side's config and faults."""
        slot = make_slots([self.config], 1, self.faults, optimizes=True)[0]
        slot.name = name
        return slot


def planned(option: str, text: str, recipe: Recipe, faults: tuple[str, ...]) -> TrainingRef:
    """The side of `case` or `case@config`, without a record."""
    return _unrecorded(*read_variant(option, text), recipe, faults)


def named(
    root: Path, option: str, text: str, recipe: Recipe, faults: tuple[str, ...]
) -> TrainingRef:
    """The first recorded training of the text, or its case."""
    if is_recorded(text) or traces.is_trace(Path(text)):
        return sides(root, option, text)[0]
    return planned(option, text, recipe, faults)


def _unrecorded(
    case: Case, config: ProcessConfig, recipe: Recipe, faults: tuple[str, ...]
) -> TrainingRef:
    words = [spelled_out(case, config)]
    for row in RECIPE_OPTIONS:
        value = getattr(recipe, row.field)
        words += [row.option, str(value)] if value != getattr(Recipe(), row.field) else []
    words += [word for fault in faults for word in ("--inject", fault)]
    name = shlex.join(words)
    return TrainingRef(name, name, case, config, recipe, faults)


def is_recorded(text: str) -> bool:
    """Whether a text is a case of a run, such as `latest:cpu-loader-…`, rather than a case."""
    head, colon, _ = text.partition(":")
    return bool(colon) and "@" not in head


def sides(root: Path, option: str, text: str) -> list[TrainingRef]:
    """Every training of `FILE`, `RUN`, `RUN:VARIANT` or `RUN:VARIANT#PROCESS`.

    Without a process, the first process of a variant is used. Raises `BadOption` if there is no
    such training.
    """
    path = Path(text)
    if traces.is_trace(path):
        return [_ref_from_trace(text, traces.load_case(path))]
    name, _, rest = text.partition(":") if is_recorded(text) else (text, "", "")
    variant, _, process = rest.partition("#")
    evidence = Evidence(loading.load(folders.find(root, name, option, "run")))
    refs = [
        _ref_from_run(name, evidence.run, shown, training)
        for shown in evidence.variants
        if variant in ("", shown.id)
        and (training := _training_in(evidence.trainings[shown.id], process))
    ]
    if not refs:
        known = ", ".join(shown.id for shown in evidence.variants[:4])
        raise BadOption(f"{option}: {text!r}: the run has no such training", f"it has {known}")
    return refs


def _ref_from_trace(text: str, trace: CaseTrace) -> TrainingRef:
    training = trace.training
    faults = tuple(training.faults)
    return replace(
        _unrecorded(training.case, training.config, training.recipe, faults),
        label=text,
        index=training.index,
        inputs_sha256=training.inputs_sha256,
        epoch_digests={number: epoch.digest for number, epoch in trace.epochs.items()},
        machine=trace.head.machine,
        trace=trace,
    )


def _training_in(trainings: Sequence[TrainingRecord], process: str) -> TrainingRecord | None:
    """The training of a process, by default the first."""
    return next((t for t in trainings if process in ("", t.process)), None)


def _ref_from_run(name: str, run: Run, variant: Variant, training: TrainingRecord) -> TrainingRef:
    label = f"{name}:{variant.id}#{training.process}"
    process = next(p for p in run.info.processes if p.id == training.process)
    return TrainingRef(
        label=label,
        name=shlex.quote(label),
        case=variant.case,
        config=variant.config,
        recipe=run.info.recipe,
        faults=tuple(run.info.faults),
        index=process.index,
        inputs_sha256=training.inputs_sha256,
        epoch_digests=dict(enumerate(training.epoch_digests)),
        machine=process.machine,
    )
