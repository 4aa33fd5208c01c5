"""The records of a killed and resumed training, and the step at which it resumed."""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Final

import msgspec

from xorbench.programs.first_difference import Hyperparameters
from xorbench.records.tensor_bytes import WIDTHS
from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent, TraceStep

COUNTERS: Final = "the optimizer's step counters"
MOST: Final = "most weights"
BATCH: Final = "the batch"
CERTAIN: Final = (COUNTERS, MOST)  # identify the step with certainty if the weights do not
# Entries that schedulers add to the groups of an optimizer, which the optimizer does not use.
OF_SCHEDULERS: Final = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step of a record, with the hyperparameters in force."""

    step: int
    line: TraceStep
    hyperparameters: Hyperparameters

    def digests(self, *kinds: str) -> dict[str, str]:
        """The digests of the events of these kinds, by kind and identity."""
        return {
            f"{event.kind} {event.identity}": event.digest or ""
            for event in self.line.events
            if event.kind in kinds
        }

    def batch(self) -> list[str | None]:
        """The digests of the batches, in order of use."""
        return [event.digest for event in self.line.events if event.kind == "batch"]

    def batches(self) -> list[tuple[str | None, ...]]:
        """The digests of the batches of each training call; calls without a batch are skipped."""
        calls: dict[str, list[str | None]] = {}
        for event in self.line.events:
            if event.kind == "batch":
                calls.setdefault(_call(event.identity), []).append(event.digest)
        return [tuple(digests) for digests in calls.values()]

    def count(self, kind: str) -> int:
        """The number of events of a kind."""
        return sum(event.kind == kind for event in self.line.events)

    def losses(self) -> list[TraceEvent]:
        """The losses on which `backward` was called."""
        return [event for event in self.line.events if event.kind == "loss"]

    def own_hyperparameters(self) -> Hyperparameters:
        """The hyperparameters of the optimizers that step, without the entries of schedulers."""
        stepping = {event.identity for event in self.line.events if event.kind == "hyperparameters"}
        return {
            name: [{k: v for k, v in group.items() if k not in OF_SCHEDULERS} for group in groups]
            for name, groups in self.hyperparameters.items()
            if name in stepping
        }

    def counters(self) -> dict[str, str]:
        """The optimizer's own step counters."""
        return {k: v for k, v in self.digests("state").items() if k.endswith(".step")}


def _call(identity: str) -> str:
    end = next((i for i, letter in enumerate(identity) if letter in "[."), len(identity))
    return identity[:end]


@dataclass(slots=True)
class ResumeRecord:
    """The complete record of one process.

    Attributes:
        names: the readable name of each parameter and buffer, by identity.
        layouts: the shape and type of each, by identity.
        end: the last line; None if the run was stopped before the end of the training.
    """

    steps: list[StepRecord] = field(default_factory=list)
    end: TraceEnd | None = None
    names: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, tuple[list[int], str]] = field(default_factory=dict)


def read(lines: Iterable[ProgramLine]) -> ResumeRecord:
    """The record in the lines of a trace."""
    record = ResumeRecord()
    hyperparameters: Hyperparameters = {}
    for line in lines:
        for identity, (name, shape, dtype) in line.names.items():
            record.names[identity] = name or record.names.get(identity, "")
            record.layouts[identity] = (shape, dtype)
        if isinstance(line, TraceEnd):
            record.end = line
            continue
        hyperparameters = {**hyperparameters, **line.hyperparameters}
        record.steps.append(StepRecord(line.step, line, hyperparameters))
    return record


# Matching identities


def renamed_as(whole: ResumeRecord, resumed: ResumeRecord) -> ResumeRecord:
    """The resumed record with the identities of the whole record.

    A program that resumes may create its optimizer twice, or pass parameters or call models in a
    different order. Unique names match them.
    """
    new = _by_name(whole, resumed) or _by_rank(whole, resumed)
    if all(old == identity for old, identity in new.items()):
        return resumed
    optimizers = {
        old.partition(".")[0]: identity.partition(".")[0] for old, identity in new.items()
    }

    def identity_of(old: str) -> str:
        owner, _, rest = old.partition(".")
        if rest.count(".") >= 2 and owner in optimizers:
            parameter = ".".join(old.split(".")[:3])
            return new.get(parameter, parameter) + old[len(parameter) :]
        return new.get(old) or optimizers.get(old, old)

    def event_of(event: TraceEvent) -> TraceEvent:
        if event.kind in ("call", "context", "batch", "input", "loss", "generator"):
            return event
        return msgspec.structs.replace(event, identity=identity_of(event.identity))

    steps = [
        replace(
            step,
            line=msgspec.structs.replace(step.line, events=[event_of(e) for e in step.line.events]),
            hyperparameters={identity_of(k): v for k, v in step.hyperparameters.items()},
        )
        for step in resumed.steps
    ]
    end = resumed.end
    if end is not None:
        end = msgspec.structs.replace(end, final=[event_of(event) for event in end.final])
    names = {identity_of(old): name for old, name in resumed.names.items()}
    layouts = {identity_of(old): layout for old, layout in resumed.layouts.items()}
    return ResumeRecord(steps, end, names, layouts)


def _owned(names: Mapping[str, str]) -> dict[str, str]:
    return {identity: name for identity, name in names.items() if identity.startswith("o")}


def _by_name(whole: ResumeRecord, resumed: ResumeRecord) -> dict[str, str]:
    """The identity in the whole record of each optimizer parameter; empty if ambiguous."""
    new, expected = _owned(resumed.names), _owned(whole.names)
    if not new or any(max(Counter(names.values()).values()) > 1 for names in (new, expected)):
        return {}
    identities = {name: identity for identity, name in expected.items()}
    if "" in identities or not all(name in identities for name in new.values()):
        return {}
    return {identity: identities[name] for identity, name in new.items()}


def _by_rank(whole: ResumeRecord, resumed: ResumeRecord) -> dict[str, str]:
    """The identities matched by the order of the optimizers, if their numbers are equal."""
    actual, expected = (
        sorted({int(identity.partition(".")[0][1:]) for identity in _owned(record.names)})
        for record in (resumed, whole)
    )
    if len(actual) != len(expected):
        return {}
    new = dict(zip(actual, expected, strict=True))
    return {
        identity: f"o{new[int(identity.partition('.')[0][1:])]}.{identity.partition('.')[2]}"
        for identity in _owned(resumed.names)
    }


# Digests


def zero_digest(shape: Sequence[int], dtype: str) -> str:
    """The digest of a tensor of zeros (docs/trace-format.md)."""
    size = WIDTHS.get(dtype, 4) * prod(shape)
    seed = mix(zlib.crc32(f"torch.{dtype} {list(shape)} {size}".encode()))
    return f"{mix(1 ^ mix(seed)):016x}"


def mix(value: int) -> int:
    """The step of SplitMix64, as in the recorder."""
    mask = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def others_of(events: Iterable[TraceEvent], kind: str) -> list[dict[str, str]]:
    """The digests of each model that is called but not trained, by parameter name."""
    models: dict[str, dict[str, str]] = {}
    for event in events:
        if event.kind == kind:
            model, _, name = event.identity.partition(".")
            models.setdefault(model, {})[name] = event.digest or ""
    return list(models.values())


def common(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The entries whose keys exist on both sides."""
    return {k: a[k] for k in a if k in b}, {k: b[k] for k in b if k in a}


# The step at which it resumed


def aligned(whole: ResumeRecord, start: StepRecord, kill_after: int) -> tuple[int | None, str]:
    """The step of the whole run at which it resumed, and the state that identified it."""
    steps = whole.steps[: kill_after + 1]
    same = [step for step in steps if same_weights(step, start)]
    counters = start.counters()
    counted = [step for step in steps if counters and step.counters() == counters]
    batched = [step for step in steps if step.batch() and step.batch() == start.batch()]
    if same:
        best = max(same, key=lambda step: _likeness(step, start))
        contradicting = _contradicting(best.step, counted, batched)
        return (best.step, "weights") if contradicting is None else contradicting
    if counted:
        return max(counted, key=lambda step: _likeness(step, start)).step, COUNTERS
    changing = _changing(steps)
    nearest = max(steps, key=lambda step: (_share(step, start, changing), *_likeness(step, start)))
    if _share(nearest, start, changing):
        return nearest.step, MOST
    if 0 < len(batched) < len(steps):
        return batched[-1].step, BATCH
    return None, ""


def prepared(whole: ResumeRecord, start: StepRecord, kill_after: int) -> int | None:
    """The step whose gradients match the first resumed step although the model calls differ.

    The program called its model before it loaded the checkpoint, so the step began with different
    weights; or it loaded accumulated gradients, so the step has fewer calls.
    """
    gradients = start.digests("gradient")
    for step in reversed(whole.steps[: kill_after + 1]):
        if gradients and step.digests("gradient") == gradients:
            return step.step if start.count("call") != step.count("call") else None
    return None


def _contradicting(
    step: int, counted: Sequence[StepRecord], batched: Sequence[StepRecord]
) -> tuple[int, str] | None:
    """The later step that counters and batch indicate if the weights are from an older step."""
    by_counter, by_batch = {step.step for step in counted}, {step.step for step in batched}
    if not by_counter or step in by_counter | by_batch:
        return None
    both = by_counter & by_batch or (by_counter if step == 0 else set())
    return (max(both), COUNTERS) if both else None


def from_scratch(start: StepRecord, step: int, by: str) -> bool:
    """Whether the resumed run started from scratch."""
    return step == 0 and (by == "weights" or (by == BATCH and not start.digests("state")))


def same_weights(step: StepRecord, start: StepRecord) -> bool:
    """Whether the common weights are identical; a model may not have been called yet."""
    a, b = common(step.digests("parameter"), start.digests("parameter"))
    if not a:  # in evaluation mode the trained model is recorded as a model that is only called
        weights = set(step.digests("parameter").values())
        return bool(weights) and weights <= set(start.digests("other").values())
    return a == b


def _changing(steps: Sequence[StepRecord]) -> set[str]:
    """The parameters that training changes."""
    values: dict[str, set[str]] = {}
    for step in steps:
        for key, digest in step.digests("parameter").items():
            values.setdefault(key, set()).add(digest)
    return {key for key, digests in values.items() if len(digests) > 1}


def _share(step: StepRecord, start: StepRecord, changing: set[str]) -> int:
    a, b = common(step.digests("parameter"), start.digests("parameter"))
    return sum(a[key] == b[key] for key in a if key in changing)


def _likeness(step: StepRecord, start: StepRecord) -> tuple[bool, bool, bool, bool, int]:
    """Which further state is identical, the most distinctive first."""
    a, b = common(step.digests("buffer"), start.digests("buffer"))
    return (
        step.digests("state") == start.digests("state"),
        a == b,
        step.own_hyperparameters() == start.own_hyperparameters(),
        step.batch() == start.batch(),
        step.step,
    )
