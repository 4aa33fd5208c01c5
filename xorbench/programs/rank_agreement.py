"""Whether the ranks of a run have identical bits in replicated tensors.

The comparison is exact and covers each step that all ranks completed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from xorbench.programs.conclusion import Conclusion
from xorbench.programs.first_difference import REPLICATED, changed
from xorbench.programs.run_processes import keyed
from xorbench.records.ended import Ended
from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent, TraceFile, rank_of
from xorbench.verdicts import counted, some

Mark: TypeAlias = tuple[str, list[int], list[int], str]  # name, identical ranks, all, reason
Kind: TypeAlias = tuple[str, str]  # kind, name

# The place, the meaning and a hint, by the kind of the first tensor that differs.
KINDS: Final = {
    "parameter": (
        "parameter {name}",
        "The ranks began to train with different weights, or a rank changed its weights outside"
        " the optimizer.",
        "change parameters before DistributedDataParallel or distribute_tensor copies them to all"
        " ranks, and load a checkpoint on every rank",
    ),
    "gradient": (
        "the gradient of {name}",
        "The optimizer of each rank used different gradients, so they were not reduced, or a rank"
        " changed them after the reduction.",
        "call the last backward pass before each step outside no_sync(), call the wrapper and not"
        " its module, and change gradients on all ranks in the same way",
    ),
    "buffer": (
        "buffer {name}",
        "The ranks have different buffers after the broadcast.",
        "change buffers on all ranks in the same way",
    ),
    "final parameter": (
        "parameter {name}",
        "The ranks ended with different weights: the last update differs, or the program changed"
        " the weights of a rank after it.",
        "change weights after the last step on all ranks, such as averages and loaded checkpoints",
    ),
    "hyperparameters": (
        "the hyperparameters: {values}",
        "The program set the optimizer's hyperparameters differently on the ranks.",
        "compute the learning rate and other hyperparameters from values that all ranks share",
    ),
}


class Disagreement(NamedTuple):
    """The first replicated tensor that differs between two ranks."""

    step: int
    kind: str
    name: str
    ranks: tuple[int, int]
    values: str

    @property
    def text(self) -> str:
        """The ranks and the place."""
        a, b = self.ranks
        is_final = self.kind == "final parameter"
        when = "after the last step" if is_final else f"first in step {self.step}"
        place = KINDS[self.kind][0].format(name=self.name, values=self.values or self.name)
        return f"rank {b} differs from rank {a} {when}, in {place}"


@dataclass(slots=True)
class Agreement:
    """The comparison of the ranks of a run, up to the first difference.

    Attributes:
        counts: the number of compared tensors of each kind.
        not_judged: the number of parameters that ranks do not share, by reason.
    """

    counts: dict[str, set[str]] = field(default_factory=dict)
    not_judged: Counter[str] = field(default_factory=Counter)
    first: Disagreement | None = None

    @property
    def text(self) -> str:
        """The compared tensors, and the tensors that may differ."""
        counts = {kind: counted(len(names), kind) for kind, names in self.counts.items()}
        parts = [kind if kind == "hyperparameters" else text for kind, text in counts.items()]
        compared = f"identical on the ranks: {', '.join(parts)}" if parts else "none"
        reasons = [f"{counted(n, 'parameter')} ({why})" for why, n in self.not_judged.items()]
        return "; ".join([compared, *([f"not compared: {some(reasons)}"] if reasons else [])])


def agreement_of(runs: Sequence[Ended]) -> Agreement | None:
    """The comparison of the ranks of each run: the first that disagrees, else the first run's.

    None if no run has several ranks.
    """
    agreements = [_compared(ranks) for run in runs for ranks in _launches(run)]
    return next((each for each in agreements if each.first), next(iter(agreements), None))


def conclusion_of(agreement: Agreement | None) -> Conclusion | None:
    """The failure if ranks disagree; else None."""
    if agreement is None or (first := agreement.first) is None:
        return None
    details = (("before it", agreement.text),) if agreement.counts else ()
    finding, (_, meaning, hint) = f"ranks disagree: {first.text}", KINDS[first.kind]
    return Conclusion("fail", finding, "ranks", meaning, hint, details, step=first.step)


def _launches(run: Ended) -> list[list[TraceFile]]:
    """The traces of each group of ranks that ran at the same time."""
    launches = defaultdict[tuple[int, int], list[TraceFile]](list)
    for process, trace in keyed(run.traces).items():
        if process.rank.isdecimal():
            launches[process.restart, process.number].append(trace)
    return [sorted(ranks, key=rank_of) for ranks in launches.values() if len(ranks) > 1]


def _compared(traces: Sequence[TraceFile]) -> Agreement:
    """Compare the ranks of one launch step by step, up to the first difference."""
    agreement, step = Agreement(), 0
    states = {rank_of(trace): _Rank() for trace in traces}
    for lines in zip(*(trace.lines() for trace in traces), strict=False):
        if len(set(map(type, lines))) > 1:  # a rank has ended, others have not
            break
        for state, line in zip(states.values(), lines, strict=True):
            state.read(line)
        lowest = next(iter(states.values()))
        agreement.not_judged = Counter(mark[3] for mark in lowest.marks.values() if mark[3])
        step = step + 1 if isinstance(lines[0], TraceEnd) else lines[0].step
        agreement.first = _first(step, states)
        if agreement.first is not None:
            break
        for kind, name in lowest.shared:
            agreement.counts.setdefault(kind, set()).add(name)
    return agreement


def _first(step: int, states: Mapping[int, "_Rank"]) -> Disagreement | None:
    """The first tensor of a step that differs, in program order of the lowest rank."""
    for key in dict.fromkeys(key for state in states.values() for key in state.shared):
        sharing = {rank: state.shared[key] for rank, state in states.items() if key in state.shared}
        for rank, (ranks, digest) in sharing.items():
            for other in ranks:
                if other < rank and sharing.get(other, (ranks, digest))[1] != digest:
                    values = changed(states[other].hyperparameters, states[rank].hyperparameters)
                    return Disagreement(step, *key, (other, rank), values)
    return None


class _Rank:
    """The replicated tensors of a rank in its current step.

    Attributes:
        shared: the ranks and the digest of each tensor that another rank has too.
        marks: the description of each optimized parameter.
    """

    def __init__(self) -> None:
        self.shared: dict[Kind, tuple[Sequence[int], str]] = {}
        self.hyperparameters: dict[str, list[dict[str, object]]] = {}
        self.marks: dict[str, Mark] = {}
        self._names: dict[str, str] = {}  # distinct: two models may have equal names
        self._owners: dict[str, str] = {}  # the first identity with a name

    def read(self, line: ProgramLine) -> None:
        """Read the next step, or the end."""
        events, marks = (
            (line.final, {}) if isinstance(line, TraceEnd) else (line.events, line.replicated)
        )
        for identity, mark in marks.items():
            self.marks[identity], name = mark, mark[0]
            taken = not name or self._owners.setdefault(name, identity) != identity
            self._names[identity] = f"{name} ({identity})".strip() if taken else name
        self.hyperparameters |= line.hyperparameters
        self.shared = {
            key: (ranks, event.digest)
            for event in events
            for key, ranks in self._shared(event)
            if event.digest is not None and len(ranks) > 1
        }

    def _shared(self, event: TraceEvent) -> Iterator[tuple[Kind, Sequence[int]]]:
        """The kind and name of an event that ranks share, and the ranks."""
        name = self._names.get(event.identity, event.identity)
        if event.kind in REPLICATED:
            ranks = [int(rank) for rank in (event.more.of or "").split(",") if rank]
            yield (event.kind.removeprefix("replicated "), name), ranks
        elif event.kind in ("parameter", "final parameter") and event.identity in self.marks:
            yield (event.kind, name), self.marks[event.identity][1]
        elif event.kind == "hyperparameters":
            owned = (m for i, m in self.marks.items() if i.startswith(f"{event.identity}."))
            yield (event.kind, event.identity), sorted({r for mark in owned for r in mark[2]})
