"""Whether the ranks of a run have identical bits in replicated tensors.

The comparison is exact and covers each step that all ranks completed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from xorbench.programs.conclusion import Conclusion
from xorbench.programs.first_difference import REPLICATED, changed
from xorbench.programs.run_processes import keyed
from xorbench.records.ended import Ended
from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent, TraceFile
from xorbench.verdicts import counted, some

Ranks: TypeAlias = tuple[int, ...]
Mark: TypeAlias = tuple[str, Ranks, Ranks, str]  # name, identical ranks, all ranks, reason
Kind: TypeAlias = tuple[str, str]  # kind, name
PARAMETERS: Final = ("parameter", "final parameter")
FINAL: Final = "final "  # of the weights after the last step

# The meaning and a hint, by the kind of the first tensor that differs.
MEANINGS: Final = {
    "parameter": (
        "The ranks began to train with different weights, or a rank changed its weights outside"
        " the optimizer.",
        "change parameters before DistributedDataParallel or distribute_tensor copies them to all"
        " ranks, and load a checkpoint on every rank",
    ),
    "gradient": (
        "The optimizer of each rank used different gradients, so they were not reduced, or a rank"
        " changed them after the reduction.",
        "call the last backward pass before each step outside no_sync(), call the wrapper and not"
        " its module, and change gradients on all ranks in the same way",
    ),
    "buffer": (
        "The ranks have different buffers after the broadcast.",
        "change buffers on all ranks in the same way",
    ),
    "final parameter": (
        "The ranks ended with different weights: the last update differs, or the program changed"
        " the weights of a rank after it.",
        "change weights after the last step on all ranks, such as averages and loaded checkpoints",
    ),
    "hyperparameters": (
        "The program set the optimizer's hyperparameters differently on the ranks.",
        "compute the learning rate and other hyperparameters from values that all ranks share",
    ),
}


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The first replicated tensor that differs between two ranks."""

    step: int
    kind: str
    name: str
    ranks: tuple[int, int]
    values: str = ""

    @property
    def text(self) -> str:
        """The ranks and the place."""
        a, b = self.ranks
        names = {
            "gradient": f"the gradient of {self.name}",
            "hyperparameters": f"the hyperparameters: {self.values or self.name}",
        }
        place = names.get(self.kind, f"{self.kind.removeprefix(FINAL)} {self.name}")
        is_final = self.kind.startswith(FINAL)
        when = "after the last step" if is_final else f"first in step {self.step}"
        return f"rank {b} differs from rank {a} {when}, in {place}"


@dataclass(slots=True)
class Agreement:
    """The comparison of the ranks of a run, up to the first difference.

    Attributes:
        ranks: the ranks.
        counts: the number of compared tensors of each kind.
        not_judged: the number of parameters that ranks do not share, by reason.
    """

    ranks: set[int] = field(default_factory=set)
    counts: dict[str, set[str]] = field(default_factory=dict)
    not_judged: Counter[str] = field(default_factory=Counter)
    first: Disagreement | None = None

    @property
    def text(self) -> str:
        """The compared tensors, and the tensors that may differ; empty for a single rank."""
        if len(self.ranks) < 2:
            return ""
        parts = [
            counted(len(names), kind) if kind != "hyperparameters" else kind
            for kind, names in self.counts.items()
        ]
        compared = f"identical on the ranks: {', '.join(parts)}" if parts else "none"
        reasons = [f"{counted(n, 'parameter')} ({why})" for why, n in self.not_judged.items()]
        return "; ".join([compared, *([f"not compared: {some(reasons)}"] if reasons else [])])


def agreement_of(runs: Sequence[Ended]) -> Agreement:
    """The comparison of the ranks of each run: the first that disagrees, else the first run's."""
    agreements = [agreement for run in runs for agreement in _of_run(run)]
    disagreeing = (agreement for agreement in agreements if agreement.first is not None)
    return next(disagreeing, agreements[0] if agreements else Agreement())


def conclusion_of(agreement: Agreement) -> Conclusion | None:
    """The failure if ranks disagree; else None."""
    first = agreement.first
    if first is None:
        return None
    meaning, hint = MEANINGS[first.kind]
    details = (("before it", agreement.text),) if agreement.counts else ()
    finding = f"ranks disagree: {first.text}"
    return Conclusion("fail", finding, "ranks", meaning, hint, details, step=first.step)


def _of_run(run: Ended) -> Iterator[Agreement]:
    """The comparison of each group of ranks that ran at the same time."""
    launches: dict[tuple[int, int], dict[int, TraceFile]] = {}
    for process, trace in keyed(run.traces).items():
        if process.rank.isdecimal():
            ranks = launches.setdefault((process.restart, process.number), {})
            ranks[int(process.rank)] = trace
    for ranks in launches.values():
        if len(ranks) > 1:
            yield compare_ranks(dict(sorted(ranks.items())))


def compare_ranks(traces: Mapping[int, TraceFile]) -> Agreement:
    """Compare the ranks of one launch step by step, up to the first difference."""
    agreement = Agreement(set(traces))
    states = [_Rank(rank) for rank in traces]
    step = 0
    for lines in zip(*(trace.lines() for trace in traces.values()), strict=False):
        if len(set(map(type, lines))) > 1:  # a rank has ended, others have not
            break
        for state, line in zip(states, lines, strict=True):
            state.read(line)
        agreement.not_judged = states[0].not_judged()
        step = step + 1 if isinstance(lines[0], TraceEnd) else lines[0].step
        agreement.first = _first(step, states)
        if agreement.first is not None:
            break
        for kind, name in states[0].shared:
            agreement.counts.setdefault(kind, set()).add(name)
    return agreement


def _first(step: int, states: Sequence["_Rank"]) -> Disagreement | None:
    """The first tensor of a step that differs, in program order of the lowest rank."""
    by_rank = {state.rank: state for state in states}
    for kind, name in dict.fromkeys(key for state in states for key in state.shared):
        for state in states:
            ranks, digest = state.shared.get((kind, name), ((), ""))
            for other in ranks:
                its_own = by_rank[other].shared.get((kind, name)) if other in by_rank else None
                if other < state.rank and its_own is not None and its_own[1] != digest:
                    reference = by_rank[other].hyperparameters
                    values = changed(reference, state.hyperparameters)
                    return Disagreement(step, kind, name, (other, state.rank), values)
    return None


class _Rank:
    """The replicated tensors of a rank in its current step.

    Attributes:
        shared: the ranks and the digest of each tensor that another rank has too.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.shared: dict[Kind, tuple[Ranks, str]] = {}
        self.hyperparameters: dict[str, list[dict[str, object]]] = {}
        self._marks: dict[str, Mark] = {}
        self._names: dict[str, str] = {}  # distinct: two models may have equal names
        self._owners: dict[str, str] = {}  # the first identity with a name

    def read(self, line: ProgramLine) -> None:
        """Read the next step, or the end."""
        news = {} if isinstance(line, TraceEnd) else line.replicated
        for identity, (name, identical, everyone, reason) in news.items():
            self._marks[identity] = (name, tuple(identical), tuple(everyone), reason)
            taken = not name or self._owners.setdefault(name, identity) != identity
            self._names[identity] = f"{name} ({identity})".strip() if taken else name
        self.hyperparameters |= line.hyperparameters
        self.shared = {
            key: (ranks, event.digest)
            for event in (line.final if isinstance(line, TraceEnd) else line.events)
            for key, ranks in self._shared(event)
            if event.digest is not None
        }

    def _shared(self, event: TraceEvent) -> Iterator[tuple[Kind, Ranks]]:
        """The kind and name of an event that ranks share, and the ranks."""
        mark = self._marks.get(event.identity)
        if event.kind in REPLICATED:
            name = self._names.get(event.identity, event.identity)
            yield (event.kind.removeprefix("replicated "), name), _ranks(event.more.of)
        elif event.kind in PARAMETERS and mark is not None and len(mark[1]) > 1:
            yield (event.kind, self._names[event.identity]), mark[1]
        elif event.kind == "hyperparameters":
            owned = (m for i, m in self._marks.items() if i.startswith(f"{event.identity}."))
            ranks = tuple(sorted({rank for mark in owned for rank in mark[2]}))
            if len(ranks) > 1:
                yield (event.kind, event.identity), ranks

    def not_judged(self) -> Counter[str]:
        """The number of parameters that no other rank has, by reason."""
        return Counter(mark[3] for mark in self._marks.values() if mark[3])


def _ranks(text: str | None) -> Ranks:
    return tuple(int(rank) for rank in (text or "").split(",") if rank)
