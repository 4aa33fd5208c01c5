"""Whether the ranks of a run have identical bits in replicated tensors.

The comparison is exact and covers each step that all ranks completed, and the weights at the end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from xorbench.programs.conclusion import Conclusion
from xorbench.programs.first_difference import REPLICATED, changed
from xorbench.programs.run_processes import keyed
from xorbench.records.ended import Ended
from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent, TraceFile, rank_of
from xorbench.verdicts import counted, some

Mark: TypeAlias = tuple[str, list[int], list[int], str]  # name, identical ranks, all, reason
Key: TypeAlias = tuple[str, str]  # kind, name

# By the kind of the first tensor that differs: its place, the number of steps since the cause, the
# meaning, and a hint.
KINDS: Final = {
    "parameter": ("parameter {name}", 1,
        "The ranks began to train with different weights, or a rank changed its weights outside"
        " the optimizer.",
        "change parameters before DistributedDataParallel or distribute_tensor copies them to all"
        " ranks, and load a checkpoint on every rank"),
    "gradient": ("the gradient of {name}", 0,
        "The optimizer of each rank used different gradients, so they were not reduced, or a rank"
        " changed them after the reduction.",
        "call the last backward pass before each step outside no_sync(), call the wrapper and not"
        " its module, and change gradients on all ranks in the same way"),
    "untrained parameter": ("parameter {name}, which its optimizer does not train", 0,
        "The optimizers of the ranks train different parameters.",
        "give the optimizer of each rank the same parameters, and freeze the same ones"),
    "buffer": ("buffer {name}", 0, "The ranks have different buffers after the broadcast.",
        "change buffers on all ranks in the same way"),
    "final parameter": ("parameter {name}", 2,
        "The ranks ended with different weights: the last update differs, or the program changed"
        " the weights of a rank after it.",
        "change weights after the last step on all ranks, such as averages and loaded checkpoints"),
    "hyperparameters": ("the hyperparameters: {values}", 0,
        "The program set the optimizer's hyperparameters differently on the ranks.",
        "compute the learning rate and other hyperparameters from values that all ranks share"),
}  # fmt: skip
STEPS: Final = "call the optimizer equally often on all ranks"


@dataclass(slots=True)
class Agreement:
    """The comparison of the ranks of a run, up to the first difference.

    Attributes:
        counts: the names of the compared tensors of each kind; None without several ranks.
        not_judged: the number of parameters that ranks do not share, by reason.
        failure: the conclusion if ranks disagree.
        since: the step that caused the disagreement.
    """

    counts: dict[str, set[str]] | None = None
    not_judged: Counter[str] = field(default_factory=Counter)
    failure: Conclusion | None = None
    since: int = 0

    @property
    def text(self) -> str:
        """The compared tensors, and the tensors that may differ; empty without several ranks."""
        if self.counts is None:
            return ""
        counts = {kind: counted(len(names), kind) for kind, names in self.counts.items()}
        parts = [kind if kind == "hyperparameters" else text for kind, text in counts.items()]
        compared = f"identical on the ranks: {', '.join(parts)}" if parts else "none"
        reasons = [f"{counted(n, 'parameter')} ({why})" for why, n in self.not_judged.items()]
        return "; ".join([compared, *([f"not compared: {some(reasons)}"] if reasons else [])])

    def fail(self, step: int, key: Key, a: "_Rank", b: "_Rank") -> None:
        """Note the first replicated tensor that differs between two ranks."""
        (kind, name), (place, lag, meaning, hint) = key, KINDS[key[0]]
        when = "after the last step" if kind == "final parameter" else f"first in step {step}"
        values = changed(a.hyperparameters, b.hyperparameters) or "their groups differ"
        finding = f"ranks disagree: rank {b.rank} differs from rank {a.rank} {when}, in "
        finding += place.format(name=name, values=values)
        if a.steps != b.steps:  # a rank has ended
            meaning, hint = f"Rank {a.rank} made {a.steps} steps, rank {b.rank} {b.steps}.", STEPS
        details = (("before it", self.text),) if self.counts else ()
        self.since = step - lag
        self.failure = Conclusion("fail", finding, "ranks", meaning, hint, details, step=step)


def agreement_of(runs: Sequence[Ended]) -> Agreement:
    """The comparison of the ranks of each run: the first that disagrees, else the first run's."""
    agreements = [_compared(ranks) for run in runs for ranks in _launches(run)]
    disagreement = next((each for each in agreements if each.failure), None)
    return disagreement or next(iter(agreements), Agreement())


def _launches(run: Ended) -> list[list[TraceFile]]:
    """The traces of each group of ranks that ran at the same time."""
    launches = defaultdict[tuple[int, int], list[TraceFile]](list)
    for process, trace in keyed(run.traces).items():
        if process.rank.isdecimal():
            launches[process.restart, process.number].append(trace)
    return [sorted(ranks, key=rank_of) for ranks in launches.values() if len(ranks) > 1]


def _compared(traces: Sequence[TraceFile]) -> Agreement:
    """Compare the ranks of one launch step by step, up to the first difference."""
    agreement, counts, step = Agreement(), defaultdict[str, set[str]](set), 0
    agreement.counts, ranks = counts, [_Rank(rank_of(trace)) for trace in traces]
    runs = [trace.lines() for trace in traces]
    for lines in zip(*runs, strict=False):
        for rank, line in zip(ranks, lines, strict=True):
            rank.read(line)
        has_ended = len(set(map(type, lines))) > 1  # a rank, others have not
        if has_ended and not _read_ends(ranks, runs):
            break
        agreement.not_judged = Counter(mark[3] for mark in ranks[0].marks.values() if mark[3])
        step = step + 1 if any(isinstance(line, TraceEnd) for line in lines) else lines[0].step
        if (first := next(_differences(ranks), None)) is not None:
            agreement.fail(step, *first)
            is_uneven = _read_ends(ranks, runs) and len({rank.steps for rank in ranks}) > 1
            if not is_uneven or not ranks[0].shared or any(_differences(ranks)):
                break
            agreement.failure = None  # the ranks made different steps: their ends decide
        for kind, name in ranks[0].shared:
            counts[kind].add(name)
    return agreement


def _read_ends(ranks: Sequence["_Rank"], runs: Sequence[Iterator[ProgramLine]]) -> bool:
    """Read each rank to its end; whether all have one. A rank without steps has no marks yet."""
    for rank, run in zip(ranks, runs, strict=True):
        for line in run:
            rank.read(line)
    marks = {mark[0]: mark for rank in ranks for mark in rank.marks.values()}
    for rank in ranks:
        rank.take_marks(marks)
    return all(rank.has_ended for rank in ranks)


def _differences(ranks: Sequence["_Rank"]) -> Iterator[tuple[Key, "_Rank", "_Rank"]]:
    """The tensors of a step that differ between two ranks, in program order of the lowest."""
    if all(rank.shared == ranks[0].shared for rank in ranks):
        return
    numbered = {rank.rank: rank for rank in ranks}
    for key in dict.fromkeys(key for rank in ranks for key in rank.shared):
        for a in (rank for rank in ranks if key in rank.shared):
            copies, digest = a.shared[key]
            for b in (numbered[copy] for copy in copies if copy in numbered):
                if key not in b.shared:
                    if key[0] == "gradient" and any(kind == key[0] for kind, _ in b.shared):
                        yield ("untrained parameter", key[1]), a, b
                elif a.rank < b.rank and b.shared[key][1] != digest:
                    yield key, a, b


class _Rank:
    """The replicated tensors of a rank in its current step.

    Attributes:
        shared: the ranks and the digest of each tensor that another rank has too.
        marks: the description of each optimized parameter.
        steps: the number of steps read.
        has_ended: whether the end is read.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.shared: dict[Key, tuple[Sequence[int], str]] = {}
        self.hyperparameters: dict[str, list[dict[str, object]]] = {}
        self.marks: dict[str, Mark] = {}
        self.steps, self.has_ended = 0, False
        self._owners: dict[str, str] = {}  # by name: two models may have equal names
        self._names: dict[str, str] = {}
        self._events: Sequence[TraceEvent] = ()

    def read(self, line: ProgramLine) -> None:
        """Read the next step, or the end."""
        self._names |= {identity: name for identity, (name, _, _) in line.names.items()}
        if isinstance(line, TraceEnd):
            self.has_ended, self._events = True, line.final
        else:
            self.steps, self._events = self.steps + 1, line.events
            self.marks |= line.replicated
        self.hyperparameters |= line.hyperparameters
        self._share()

    def take_marks(self, known: Mapping[str, Mark]) -> None:
        """Take the marks of parameters of these names from other ranks, where it has none."""
        own = {i: known[name] for i, name in self._names.items() if name in known}
        self.marks = {i: mark for i, mark in own.items() if self.rank in mark[1]} | self.marks
        self._share()

    def _share(self) -> None:
        self.shared = {
            key: (ranks, event.digest)
            for event in self._events
            for key, ranks in self._shared(event)
            if event.digest is not None and len(ranks) > 1
        }

    def _name(self, identity: str) -> str:
        """The name of a parameter, distinct; the identity if it has none."""
        name = self.marks[identity][0] if identity in self.marks else ""
        is_first = self._owners.setdefault(name, identity) == identity
        return name if name and is_first else f"{name} ({identity})" if name else identity

    def _shared(self, event: TraceEvent) -> Iterator[tuple[Key, Sequence[int]]]:
        """The kind and name of an event that ranks share, and the ranks."""
        kind, identity = event.kind, event.identity
        if kind in REPLICATED:
            ranks = [int(rank) for rank in (event.more.of or "").split(",") if rank]
            yield (kind.removeprefix("replicated "), self._name(identity)), ranks
        elif kind in ("parameter", "final parameter") and identity in self.marks:
            yield (kind, self._name(identity)), self.marks[identity][1]
        elif kind == "hyperparameters":
            owned = (mark for i, mark in self.marks.items() if i.startswith(f"{identity}."))
            yield (kind, identity), sorted({rank for mark in owned for rank in mark[2]})
