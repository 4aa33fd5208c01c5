"""Whether B differs from A by more than rounding: B - A in units of the noise of A's noisy runs.

Two ratios are judged for each tensor of each step. The first is the norm of B - A over the root
mean square of the norms of the noisy runs - A. The second is the component along the tensor itself,
for a parameter along its movement, in which a wrong scale shows long before it shows in the norm.
"""

import base64
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import mul
from typing import Any, Final, Literal

import numpy as np

from xorbench.programs.first_difference import WEIGHTS, parameter_of
from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent

BUCKETS: Final = 251  # sums of a sketch, `recorder/sketch.py`
LIMIT: Final = 10.0
SCALE_LIMIT: Final = 20.0
SATURATED: Final = 0.1  # noise of a tensor, relative to it, above which it is not judged
SIGNED: Final = 1e-3  # the same of gradients whose signs the first step of Adam may take
RARE: Final = 3  # elements with a gradient near 0: Adam moves them by up to a step
SMALL: Final = 100  # elements up to which a tensor pools the noise of `POOLED` steps
POOLED: Final = 5
EVEN: Final = 0.6  # of noise without a direction: the least component along a tensor
ENOUGH: Final = 0.5  # share of the steps that must be judged
FLOORS: Final = ("initial", "output", "operator", "buffer", "batch", "draw")  # at least one eps
EPS: Final = {
    "float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7,
    "complex128": 2.0**-52, "complex64": 2.0**-23,
}  # fmt: skip
UPDATED: Final = ("gradient", "new state")
WHOLE: Final = ("initial", *UPDATED, *WEIGHTS)  # the same in every rank
EXACT: Final = ("batch", "label", "draw")  # values that rounding cannot change, without a sketch
SKETCHED: Final = ("loss", "output", "operator", "decision", "batch", "draw", *UPDATED)
# Decisions after which the forward pass is continuous: they change only gradients by much.
CONTINUOUS: Final = (
    *("relu", "max_pool", "adaptive_max_pool", "clamp", "hardtanh", "abs", "max", "min", "fm"),
    *("leaky_relu", "prelu", "threshold", "l1_loss", "smooth_l1", "huber"),
)
# Kinds after all others of a step.
ORDER: Final = {"gradient": 1, "hyperparameters": 2, "new state": 3, "parameter": 4, "buffer": 4}
# Settings of an optimizer that select a kernel and leave the formula as it is.
KERNELS: Final = ("foreach", "fused", "capturable", "differentiable", "params")
SAME_VALUE: Final = 2.0**-23  # relative difference of equal hyperparameters
CALL: Final = re.compile(r"(.*)#(\d+)")  # of a module, in the name of an output
UNSTEADY: Final = "not the same in the runs of A"
STEADY: Final = ("initial", "batch", "draw")  # rounding hardly changes them
ZERO: Final = 1e18  # a ratio that only a tensor has that is zero in A and in the noisy runs

Key = tuple[str, str]  # kind and name
Array = np.ndarray[Any, np.dtype[np.float64]]
Word = Literal["same", "beyond", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Sketch:
    """The sketch of a tensor, its number of elements, its type, its digest and its shape."""

    sums: Array
    count: int
    dtype: str
    digest: str = ""
    shard: bool = False
    shape: tuple[int, ...] = ()


@dataclass(slots=True)
class Step:
    """One step of a run: sketches in program order, and the values that rounding cannot change."""

    sketches: dict[Key, Sketch] = field(default_factory=dict)
    exact: dict[Key, tuple[object, str | None]] = field(default_factory=dict)  # type, digest
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)  # by parameter
    reset: bool = False  # whether it began with the state of A
    changed: bool = False  # whether the program changed an optimizer's state before it
    places: dict[str, str] = field(default_factory=dict)  # a decision's module, an operator's line


def read_steps(lines: Iterable[ProgramLine]) -> list[Step]:
    """The steps of a record; a parameter or buffer belongs to the step that has changed it."""
    steps, names, groups = list[Step](), dict[str, str](), dict[str, list[dict[str, Any]]]()
    for line in lines:
        names |= {identity: name for identity, (name, _, _) in line.names.items()}
        groups |= line.hyperparameters
        shown, is_first = _unique(names), not steps
        if is_first:
            steps.append(Step())
        for event in line.final if isinstance(line, TraceEnd) else line.events:
            kind = event.kind.removeprefix("final ")
            if kind in WEIGHTS and (sketch := sketch_of(event)):
                key = "initial" if is_first else kind, shown.get(event.identity, event.identity)
                steps[-1].sketches[key] = sketch
        if isinstance(line, TraceEnd):
            break
        if len(steps) <= line.step:
            steps.append(Step())
        _add_events(steps[-1], line.events, shown)
        stepping = {event.identity for event in line.events if event.kind == "hyperparameters"}
        known = {name: values for name, values in groups.items() if name in stepping}
        steps[-1].hyperparameters = _by_parameter(known, shown)
    return steps


def _unique(names: Mapping[str, str]) -> dict[str, str]:
    """The name of each identity, or the identity if several optimizers or models have the name."""
    counts = Counter((identity[:1], name) for identity, name in names.items())
    return {i: name if name and counts[i[:1], name] == 1 else i for i, name in names.items()}


def _add_events(step: Step, events: Sequence[TraceEvent], names: Mapping[str, str]) -> None:
    decisions: list[str] = []  # in no module yet
    for event in events:
        kind, identity, more = event.kind, event.identity, event.more
        sketch = sketch_of(event) if kind in SKETCHED else None
        if kind == "loss":
            _add_loss(step, sketch)
        elif sketch is not None:
            parameter = parameter_of(identity)
            name = names.get(parameter, parameter) + identity[len(parameter) :]
            name = f"{identity} {more.name}" if kind == "operator" else name
            step.sketches[kind, name] = sketch
            step.places |= {name: more.where} if kind == "operator" else {}
        if kind == "decision":
            decisions.append(identity)
        elif kind == "output":  # of the innermost module around them
            step.places |= dict.fromkeys(decisions, identity.partition("#")[0])
            decisions.clear()
        elif kind in EXACT and not more.sketch:
            step.exact[kind, identity] = (more.dtype, tuple(more.shape or ())), event.digest
        step.reset |= (kind, identity) == ("note", "reset")
        step.changed |= (kind, identity) == ("note", "changed")


def _add_loss(step: Step, sketch: Sketch | None) -> None:
    """The losses of a step add up: a step may accumulate gradients."""
    before = step.sketches.pop(("loss", ""), None)
    if sketch is not None and sketch.count == 1:
        sums = sketch.sums if before is None else sketch.sums + before.sums
        step.sketches["loss", ""] = replace(sketch, sums=sums)


def sketch_of(event: TraceEvent) -> Sketch | None:
    """The sketch in an event; None if it has none."""
    more = event.more
    if more.shape is None or more.dtype not in EPS:
        return None
    sums = np.zeros(BUCKETS)
    values = np.frombuffer(base64.b64decode(more.sketch), dtype="<f8")
    sums[: len(values)] = values
    count, shape = int(np.prod(more.shape)), tuple(more.shape)
    return Sketch(sums, count, more.dtype, event.digest or "", more.shard, shape)


def _by_parameter(
    groups: Mapping[str, list[dict[str, Any]]], names: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The hyperparameters of each parameter that an optimizer has."""
    values = {}
    for identity, name in names.items():
        owner, _, rest = identity.partition(".g")
        number = rest.partition(".")[0]
        if number.isdecimal() and int(number) < len(groups.get(owner, ())):
            group = groups[owner][int(number)]
            without = KERNELS if group.get("weight_decay") else (*KERNELS, "decoupled_weight_decay")
            values[name] = {k: v for k, v in group.items() if k not in without}
    return values


def merged(ranks: Sequence[list[Step]], *, whole: bool) -> list[Step]:
    """The steps of all ranks as those of one process; the sketches of shards add up.

    With `whole` only the tensors of the whole training are kept, for a different number of ranks.
    """
    steps = []
    for numbered in zip(*ranks, strict=False):
        reset = all(own.reset for own in numbered)
        step = Step(hyperparameters=numbered[0].hyperparameters, reset=reset)
        for rank, own in enumerate(numbered):
            step.changed |= own.changed
            step.places |= own.places
            suffix = f" of rank {rank}" if rank and not whole else ""
            for key, sketch in own.sketches.items():
                if key[0] in WHOLE or not whole:
                    _add_rank(step, key, sketch, suffix)
            exact = {} if whole else own.exact
            step.exact |= {(kind, name + suffix): value for (kind, name), value in exact.items()}
        steps.append(step)
    return steps


def _add_rank(step: Step, key: Key, sketch: Sketch, rank: str) -> None:
    known = step.sketches.get(key)
    if sketch.shard:
        sums = sketch.sums if known is None else known.sums + sketch.sums
        step.sketches[key] = replace(known or sketch, sums=sums)
    elif known is None or rank:
        step.sketches[key[0], key[1] + rank] = sketch


# Comparison


@dataclass(frozen=True, slots=True)
class Row:
    """A tensor in a step: its two ratios, and its noise relative to the tensor.

    For a decision, `ratio` and `noise` are the numbers of different elements in B and in a noisy
    run. `text` describes a difference of values that rounding cannot change.
    """

    step: int
    kind: str
    name: str
    ratio: float = 0.0
    along: float = 0.0
    noise: float = 0.0
    text: str = ""

    @property
    def times(self) -> float:
        """The larger ratio, in units in which its limit is `LIMIT`; 0 if it is not judged."""
        if self.text:
            return float("inf")
        larger = LIMIT * max(self.ratio / LIMIT, self.along / SCALE_LIMIT)
        return larger if self.noise <= SATURATED else 0.0


@dataclass(slots=True)
class Comparison:
    """Compares the steps of B with those of A.

    Attributes:
        a: the steps of A.
        center: the run with which the noisy runs are compared: A, or its eager run.
        b: the steps of B.
        noisy: the steps of the noisy runs.
    """

    a: Sequence[Step]
    center: Sequence[Step]
    b: Sequence[Step]
    noisy: Sequence[Sequence[Step]]
    _began: int = 0  # the last step that began with the state of A in every run
    _start: dict[str, Array] = field(default_factory=dict)  # of A's parameters, in that step
    _recent: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)
    _forked: list[bool] = field(default_factory=list)  # of the noisy runs
    _gradients: dict[str, float] = field(default_factory=dict)  # their largest relative noise

    def steps(self) -> Iterator[list[Row]]:
        """The rows of each step that every run has, in program order."""
        counts = list(map(len, (self.a, self.center, self.b, *self.noisy)))
        for step in range(min(counts)):
            a, b = self.a[step], self.b[step]
            if self.is_fresh(step):
                self._begin(step)
            calls = _calls(b)
            moved = {path for path, count in _calls(a).items() if calls[path] != count}
            sketched = (
                self._row(step, (kind, name), own)
                for (kind, name), own in a.sketches.items()
                if kind != "output" or name.partition("#")[0] not in moved
            )
            missing = _missing(step, a, b, {*self.b[0].sketches, *b.sketches})
            rows = [*self._exact(step), *filter(None, sketched), *missing]
            yield sorted(rows, key=lambda row: ORDER.get(row.kind, 0))

    def is_fresh(self, step: int) -> bool:
        """Whether every run begins the step with the state of A."""
        runs = self.b, self.center, *self.noisy
        return not step or all(run[step].reset for run in runs if run is not self.a)

    def _exact(self, step: int) -> Iterator[Row]:
        """The exact values that differ in B; a value may differ between the runs of A, too."""
        a = self.a[step]
        unsteady = {(r.kind, r.name) for run in self.noisy for r in exact_rows(step, a, run[step])}
        for row in exact_rows(step, a, self.b[step]):
            yield replace(row, text=UNSTEADY) if (row.kind, row.name) in unsteady else row
        if step and self._has_lost_state(step):
            yield Row(step, "state", "", text="other names or shapes than in A")
        if self.b[step].reset and a.changed != self.b[step].changed:
            side = "A" if a.changed else "B"
            yield Row(step, "state", "", text=f"changed between two steps in {side} only")

    def _has_lost_state(self, step: int) -> bool:
        """Whether B cannot begin with the state of A any more, unlike the noisy runs."""
        had_state = any(earlier.reset for earlier in self.b[:step])
        return had_state and not self.b[step].reset and all(run[step].reset for run in self.noisy)

    def _begin(self, step: int) -> None:
        self._began, self._forked = step, [False] * len(self.noisy)
        before = self.a[step - 1].sketches.items() if step else ()
        self._start |= {name: own.sums for (kind, name), own in before if kind == "parameter"}

    def _row(self, step: int, key: Key, own: Sketch) -> Row | None:
        runs = self.b, self.center, *self.noisy
        others = [run[step].sketches.get(key) for run in runs]
        # a compiled optimizer calls no hook: its gradients are read before they are clipped
        has_hook = [bool(run[step].hyperparameters) for run in (self.a, self.b)]
        is_apart = key[0] == "gradient" and has_hook[0] != has_hook[1]
        seen = others[0]  # compiled code shows no decision, and a pass of fewer rows another one
        is_hidden = key[0] == "decision" and (seen is None or seen.count != own.count)
        known = [other for other in (own if is_hidden else seen, *others[1:]) if other]
        is_comparable = all(_have_one_order(own, other) for other in known)
        if is_apart or len(known) < len(others) or not is_comparable:
            return None
        if key[0] == "decision":
            row = self._decision(step, key[1], own, known)
            return replace(row, text="is not visible in B") if is_hidden else row
        shifts = [self._shift(run, key) for run in runs]
        b, center, *noisy = (o.sums - shift for o, shift in zip(known, shifts, strict=True))
        gap, gaps = b - own.sums, np.array(noisy) - center
        if not np.isfinite(own.sums).all() or not np.isfinite(gaps).all():
            return Row(step, *key, noise=1.0)
        if not np.isfinite(gap).all():
            return Row(step, *key, text="is not finite in B")
        if key[0] in ("parameter", "new state"):
            gap[np.argsort(-abs(gap))[: min(RARE, own.count // SMALL)]] = 0.0
        row = self._tensor(step, key, own, gap, gaps)
        if key[0] in STEADY and row.noise > SATURATED:
            return replace(row, text=UNSTEADY)
        is_other = row.times > LIMIT and known[0].dtype != own.dtype
        return replace(row, text=f"{known[0].dtype} in B, {own.dtype} in A") if is_other else row

    def _shift(self, run: Sequence[Step], key: Key) -> Array | float:
        """The difference of the initial parameter from that of A, as long as a run keeps it."""
        initial = [r[0].sketches.get(("initial", key[1])) for r in (run, self.a)]
        is_kept = key[0] == "parameter" and not self._began
        return initial[0].sums - initial[1].sums if is_kept and all(initial) else 0.0  # type: ignore[union-attr]

    def _decision(self, step: int, name: str, own: Sketch, others: Sequence[Sketch]) -> Row:
        b, center, *noisy = others
        flips = [_flips(center, run) for run in noisy]
        self._forked = [f or flip > 0 for f, flip in zip(self._forked, flips, strict=True)]
        place = self.a[step].places.get(name)
        shown = f"{name} in {place}" if place else name
        return Row(step, "decision", shown, _flips(own, b), noise=float(np.mean(flips)))

    def _tensor(self, step: int, key: Key, own: Sketch, gap: Array, gaps: Array) -> Row:
        kind, name = key
        if kind == "initial":
            self._start[name] = own.sums
        scale = own.sums - self._start.get(name, 0.0) if kind == "parameter" else own.sums
        norm, size, eps = norm_of(own.sums), norm_of(scale), EPS[own.dtype]
        least = 1.0 if kind in FLOORS else 1 / np.sqrt(2 * min(own.count, SMALL))
        calm = [g for g, forked in zip(gaps, self._forked, strict=True) if not forked]
        used = np.array(calm) if len(calm) > 1 else gaps  # a fork is not noise
        unit = scale / (size or 1.0)
        recent = self._recent.setdefault(key, [])
        recent.append((float((used**2).sum(1).mean()), float(((used @ unit) ** 2).mean())))
        last, pooled = np.sqrt(recent[-1]), np.sqrt(np.mean(recent[-POOLED:], axis=0))
        noise = max(last[0], pooled[0] * (own.count < SMALL), least * eps * norm, 1e-300)
        along = 0.0
        if size and own.count > 1:
            floor = max(eps * size, EVEN * noise / np.sqrt(min(own.count, BUCKETS)))
            along = abs(float(gap @ unit)) / max(last[1], pooled[1], floor)
        relative = noise / (size or norm) if (size or norm) else 0.0
        ratio = float(norm_of(gap) / noise)
        rough = self._gradients.get(name.rpartition(".")[0] if kind == "new state" else name, 0.0)
        if kind == "gradient":
            self._gradients[name] = max(rough, relative)
        most = SIGNED if kind == "parameter" and not step else SATURATED
        if kind in ("parameter", "new state") and rough > most:
            relative = max(relative, 1.0)  # Adam divides noise by its size, and first takes signs
        return Row(step, kind, name, min(ratio, ZERO), float(along), float(relative))


def _calls(step: Step) -> Counter[str]:
    """The number of calls of each module: with another one, equal numbers are other calls."""
    outputs = (CALL.match(name) for kind, name in step.sketches if kind == "output")
    return Counter(path for path, _ in {output.groups() for output in outputs if output})


def _have_one_order(a: Sketch, b: Sketch) -> bool:
    """Whether two tensors have as many elements in one order: equal shapes, or flattened ones."""
    sizes = [{*accumulate(sketch.shape[::-1], mul)} for sketch in (a, b)]
    return a.count == b.count and (sizes[0] <= sizes[1] or sizes[1] <= sizes[0])


def norm_of(sums: Array) -> float:
    """The norm of a tensor, from its sketch."""
    return float(np.linalg.norm(sums))


def _flips(a: Sketch, b: Sketch) -> float:
    """The number of different elements: of a difference at least one."""
    return 0.0 if a.digest == b.digest else max(1.0, float(((b.sums - a.sums) ** 2).sum()))


def exact_rows(step: int, a: Step, b: Step) -> Iterator[Row]:
    """The differences of values that rounding cannot change."""
    for kind in EXACT:
        values, others = ({k[1]: v for k, v in s.exact.items() if k[0] == kind} for s in (a, b))
        if _types(values) == _types(others):  # else the calls differ
            different = [name for name, value in values.items() if others[name] != value]
            yield from (Row(step, kind, name, text="differs") for name in different)
    for name, values in a.hyperparameters.items():
        for key, value in values.items():
            other = b.hyperparameters.get(name, {}).get(key, value)
            if not _equal(value, other):
                yield Row(step, "hyperparameters", name, text=f"{key} {value} in A, {other} in B")
                return


def _types(values: Mapping[str, tuple[object, str | None]]) -> dict[str, object]:
    return {name: type_ for name, (type_, _) in values.items()}


def _draws(step: Step) -> dict[str, object]:
    """The sizes of the random draws, such as masks of dropout."""
    exact = {name: type_ for (kind, name), (type_, _) in step.exact.items() if kind == "draw"}
    return exact | {key[1]: own.count for key, own in step.sketches.items() if key[0] == "draw"}


def _equal(a: Any, b: Any) -> bool:
    """Whether two hyperparameters are equal; a tensor holds them in float32."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= SAME_VALUE * max(abs(a), abs(b))
    return bool(a == b)


def _missing(step: int, a: Step, b: Step, known: Container[Key]) -> Iterator[Row]:
    """The gradients of parameters of B that it lacks: its optimizer skips these parameters."""
    has_gradients = any(kind == "gradient" for kind, _ in b.sketches)
    for (kind, name), sketch in a.sketches.items():
        is_missing = kind == "gradient" and (kind, name) not in b.sketches and has_gradients
        is_known = ("initial", name) in known or ("parameter", name) in known
        if is_missing and is_known and sketch.sums.any():
            yield Row(step, kind, name, text="is missing in B")


# The answer


@dataclass(slots=True)
class RoundingAnswer:
    """The answer, and its evidence.

    Attributes:
        word: the answer.
        total: the number of steps of both runs.
        judged: the steps that were judged.
        tensors: the number of tensors that were judged.
        worst: the judged tensor with the largest ratio.
        first: the first tensor beyond rounding.
        forks: the steps that were not judged, with the decision that was different.
        noisy: the names of the tensors that were not judged because of their noise.
        unmatched: the parameters and buffers of A that B does not have.
        other_draws: whether B draws random numbers of other shapes.
        only_loss: whether the updates of the first step beyond rounding are the same up to it.
        by_step: for each `step` the largest `ratio`, in units of the noise, and the median `noise`
            of the gradients relative to them.
    """

    word: Word = "same"
    total: int = 0
    judged: list[int] = field(default_factory=list)
    tensors: int = 0
    worst: Row | None = None
    first: Row | None = None
    forks: dict[int, Row] = field(default_factory=dict)
    noisy: set[str] = field(default_factory=set)
    unmatched: list[str] = field(default_factory=list)
    other_draws: bool = False
    only_loss: bool = False
    by_step: list[dict[str, float]] = field(default_factory=list)

    def note(self, step: int, rows: Sequence[Row]) -> float:
        """Add the figures of a step to `by_step`; return its noise."""
        noises = [row.noise for row in rows if row.kind == "gradient" and not row.text]
        noise = float(np.median(noises)) if noises else 0.0
        largest = max((row.times for row in rows if not row.text), default=0.0)
        self.by_step.append({"step": step, "ratio": largest, "noise": noise})
        return noise

    def beyond(self, first: Row, rows: Sequence[Row], pairs: Iterable[tuple[Step, Step]]) -> None:
        """Answer with the first tensor beyond rounding; `pairs` are the steps of A and B so far."""
        self.word, self.first = "beyond", first
        updates = [row for row in rows if row.kind in (*UPDATED, "parameter")]
        self.only_loss = first.kind == "loss" and all(row.times <= LIMIT for row in updates)
        self.other_draws = any(_draws(own) != _draws(other) for own, other in pairs)

    def count(self, step: int, rows: Sequence[Row]) -> None:
        """Add a step that is judged."""
        judged = [row for row in rows if row.noise <= SATURATED]
        self.judged.append(step)
        self.tensors += len(judged)
        known = [self.worst] if self.worst else []
        self.worst = max([*judged, *known], key=lambda row: row.times, default=None)


@dataclass(slots=True)
class Forks:
    """The decisions of B that rounding may have changed: no more than in the noisy runs.

    Attributes:
        fork: the first such decision of the step, or of the run; or a value that differs between
            runs of A.
        hidden: a decision that is not visible in B.
        chance: the number of steps in which a noisy run has such a decision, on average.
        guessed: the first tensors beyond a limit that only a hidden decision may explain.
    """

    flips: float = 0.0
    seen: int = 0
    fork: Row | None = None
    origin: int = 0  # the step of its pass
    hidden: Row | None = None
    chance: float = 0.0
    guessed: list[Row] = field(default_factory=list)

    def begin(self, a: Sequence[Step], step: int) -> None:
        """Drop the fork of an earlier step, unless another optimizer may use its backward pass."""
        own = a[step].hyperparameters.keys()
        passes = a[self.origin : step]
        if self.fork and all(earlier.hyperparameters.keys() != own for earlier in passes):
            self.fork = replace(self.fork, step=step)
        else:
            self.fork = None

    def first_beyond(self, rows: Sequence[Row]) -> Row | None:
        """The first tensor of a step beyond its limit that no decision before it explains."""
        most = 0.0
        for row in rows:
            if row.kind == "decision":
                most = max(most, min(1.0, row.noise))
                self._take(row)
            elif row.text == UNSTEADY:
                is_first = self.fork is None or self.fork.kind == "decision"
                self.fork = row if is_first else self.fork
            elif row.times > LIMIT and not self._explains(self.fork, row):
                return _largest(row, rows)
        self.chance += most
        return None

    def _take(self, row: Row) -> None:
        self.flips, self.seen = self.flips + row.noise, self.seen + 1
        if row.text:
            self.hidden = row
        elif 0 < row.ratio <= 4 + 4 * self.flips / self.seen and self.fork is None:
            self.fork, self.origin = row, row.step

    @staticmethod
    def _explains(fork: Row | None, row: Row) -> bool:
        if fork is None or row.text:
            return False
        late = row.step > fork.step or row.kind in (*UPDATED, "parameter")
        is_continuous = fork.kind == "decision" and fork.name.startswith(CONTINUOUS)
        return late or not is_continuous

    def may_be_hidden(self, row: Row) -> bool:
        """Whether a decision that B does not show may explain a tensor beyond its limit.

        Not if there are more such steps than the noisy runs have, by far.
        """
        if not self._explains(self.hidden and replace(self.hidden, step=row.step, text=""), row):
            return False
        self.guessed.append(row)
        return len(self.guessed) <= 2 + 3 * self.chance


def _largest(first: Row, rows: Sequence[Row]) -> Row:
    """The tensor furthest beyond its limit: gradients and weights of a step have no order."""
    if first.kind not in WHOLE or first.text:
        return first
    return max((row for row in rows if row.kind == first.kind), key=lambda row: row.times)


def judge(comparison: Comparison) -> RoundingAnswer:
    """Judge step by step, up to the first tensor beyond rounding.

    After a fork, a step beyond a limit is not judged, and of the following ones only the exact
    values, until one begins with the state of A.
    """
    a, b = comparison.a, comparison.b
    answer, forks = RoundingAnswer(total=min(len(a), len(b))), Forks()
    answer.unmatched = _unmatched(a, b)
    is_lost = False  # a step was not judged, and no later one began with the state of A
    steps = enumerate(comparison.steps())
    for step, rows in steps:
        tensors = _tensors(rows)
        if comparison.is_fresh(step):
            is_lost = False
            forks.begin(a, step)
        exact = (row for row in rows if row.text and row.kind in (*EXACT, "hyperparameters"))
        first = forks.first_beyond(list(exact) if is_lost else rows)
        is_noisy = answer.note(step, tensors) > SATURATED  # half of the gradients
        if first is not None and (first.text or not is_noisy) and not forks.may_be_hidden(first):
            answer.beyond([*forks.guessed, first][0], rows, zip(a[: step + 1], b, strict=False))
            for later, others in steps:  # only for the picture
                answer.note(later, _tensors(others))
            return answer
        if is_lost:
            continue
        answer.noisy |= {f"{row.kind} {row.name}" for row in tensors if row.noise > SATURATED}
        if first is None and not is_noisy and all(row.times <= LIMIT for row in tensors):
            answer.count(step, tensors)
            continue
        is_lost = True
        cause = forks.hidden if first is not None else forks.fork
        is_known = cause is not None and not (is_noisy and cause.kind == "decision")
        answer.forks |= {step: cause} if cause is not None and is_known else {}
        if cause is not None and cause.text == UNSTEADY:
            break  # the pooled noise is no longer that of rounding
    if len(a) != len(b):
        text = f"{len(a)} in A, {len(b)} in B"
        answer.word, answer.first = "beyond", Row(answer.total, "steps", "", text=text)
    elif len(answer.judged) < max(1, ENOUGH * answer.total):
        answer.word = "cannot tell"
    return answer


def _unmatched(a: Sequence[Step], b: Sequence[Step]) -> list[str]:
    own, other = (run[0].sketches if run else {} for run in (a, b))
    return [
        key[1]
        for key, sketch in own.items()
        if key[0] == "initial" and not (key in other and _have_one_order(sketch, other[key]))
    ]


def _tensors(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.kind != "decision"]
