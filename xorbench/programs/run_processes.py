"""Match the processes of two runs of a command.

A rank is compared with the same rank. A restart by the launcher is a separate process. Words of
the command line that differ in every run, such as a time stamp, do not decide the match.
"""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Final, TypeAlias

from xorbench.records.trace import TraceFile
from xorbench.verdicts import some

LAUNCHERS: Final = re.compile(r"(^|/)torchrun$|^torch\.distributed\.(run|launch)$")
RENDEZVOUS: Final = ("--standalone", "--rdzv", "--master", "--nnodes")
PORT_TAKEN: Final = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)
STANDALONE: Final = "add --standalone to torchrun, so that it uses a free port"
ON_THIS_MACHINE: Final = "every rank must run on this machine, with the PYTHONPATH of its launcher"
ROOT_CAUSE: Final = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s*: (\d+).*?exitcode\s*: (-?\d+)", re.DOTALL
)
AGENT: Final = re.compile(r"torch/distributed/elastic/\S+\.py:\d+\]")  # the launcher's own log
DIED: Final = re.compile(AGENT.pattern + r" failed \(exitcode")
POOL_THREAD: Final = re.compile(r"^ThreadPoolExecutor-|\(worker\)$")
HIDDEN: Final = "…"  # in place of a word that differs in every run
# A part of a file name that differs in every run: of `tempfile`, a uuid, or a number.
CHANGING: Final = re.compile(r"tmp\w{8}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+")

Program: TypeAlias = tuple[str, str, int]  # rank, script and name, restart


@dataclass(frozen=True, slots=True)
class RunProcess:
    """The identity of a process in a run: rank, arguments, restart, and number among equals.

    `program` is the script or module, without parts that differ in every run.
    """

    rank: str
    argv: str
    restart: int
    number: int
    program: str = ""

    def __str__(self) -> str:
        parts = [f"rank {self.rank}" if self.rank else self.argv or "python"]
        parts += [f"restart {self.restart}"] if self.restart else []
        parts += [f"start {self.number + 1}"] if self.number else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class ProcessPair:
    """A process in two runs; a side is None if it does not exist in that run.

    `restarted` is true if the launcher restarted it in both runs.
    """

    process: RunProcess
    a: TraceFile | None
    b: TraceFile | None
    restarted: bool = False

    @property
    def in_pool(self) -> bool:
        """Whether it belongs to a pool, which distributes jobs by timing."""
        processes = [trace.head.process for trace in (self.a, self.b) if trace is not None]
        return any(process is not None and process.pool for process in processes)

    @property
    def shares_jobs(self) -> bool:
        """Whether it takes jobs by timing: a process of a pool, or a thread of one."""
        processes = [trace.head.process for trace in (self.a, self.b) if trace is not None]
        names = [process.name or "" for process in processes if process is not None]
        return self.in_pool or any(map(POOL_THREAD.search, names))

    @property
    def ended_by_parent(self) -> bool:
        """Whether another process ends it, so that its record needs no last line."""
        return self.restarted or self.in_pool


def paired(a: Sequence[TraceFile], b: Sequence[TraceFile]) -> list[ProcessPair]:
    """The processes of two runs, matched by rank, program, restart, arguments, and order."""
    changing = _changing_words(a, b)
    left, right = keyed(a, changing), keyed(b, changing)
    matches = {key: key for key in left if key in right}
    matches |= _by_order(left.keys() - matches, right.keys() - matches, [*left, *right])
    pairs = []
    for key, trace in left.items():
        match = matches.get(key)
        if match is None:
            pairs.append(ProcessPair(key, trace, None))
        else:
            restarted = _has_later(key, left) and _has_later(match, right)
            pairs.append(ProcessPair(key, trace, right[match], restarted))
    unmatched = [key for key in right if key not in matches.values()]
    return pairs + [ProcessPair(key, None, right[key]) for key in unmatched]


def _by_order(
    left: Set[RunProcess], right: Set[RunProcess], order: Sequence[RunProcess]
) -> dict[RunProcess, RunProcess]:
    """The processes without a process of equal arguments: matched by program, in their order."""
    groups: dict[Program, tuple[list[RunProcess], list[RunProcess]]] = {}
    for key in dict.fromkeys(order):
        group = groups.setdefault((key.rank, key.program, key.restart), ([], []))
        for side, keys in zip(group, (left, right), strict=True):
            if key in keys:
                side.append(key)
    return {a: b for sides in groups.values() for a, b in zip(*sides, strict=False)}


def keyed(
    traces: Sequence[TraceFile], changing: Mapping[Program, Set[int]] = MappingProxyType({})
) -> dict[RunProcess, TraceFile]:
    """The traces of a run by process; `changing` are the words to hide, by their index."""
    keys: dict[RunProcess, TraceFile] = {}
    for trace in traces:
        rank, program, restart = _program_of(trace)
        hidden = changing.get((rank, program, restart), frozenset())
        words = [HIDDEN if i in hidden else word for i, word in enumerate(_words(trace))]
        argv = shlex.join(words).replace(f"'{HIDDEN}'", HIDDEN) + _name_text(trace)
        # the text of a rank does not show its arguments
        equals = [key for key in keys if (key.rank, key.restart) == (rank, restart)]
        same = [key for key in equals if rank or key.argv == argv]
        keys[RunProcess(rank, argv, restart, len(same), program)] = trace
    return keys


def _changing_words(
    a: Sequence[TraceFile], b: Sequence[TraceFile]
) -> dict[Program, frozenset[int]]:
    """The indices of the words that differ between the runs, for each program.

    The order of processes that run at the same time is arbitrary, so all values of a word in a run
    are compared with all values in the other. Programs with a different number of processes in the
    two runs are matched by all their words.
    """
    groups: dict[Program, tuple[list[list[str]], list[list[str]]]] = {}
    for side, traces in enumerate((a, b)):
        for trace in traces:
            groups.setdefault(_program_of(trace), ([], []))[side].append(_words(trace))
    return {
        program: frozenset(
            index
            for index in range(max(map(len, [*left, *right])))
            if _column(left, index) != _column(right, index)
        )
        for program, (left, right) in groups.items()
        if len(left) == len(right)
    }


def _column(rows: Sequence[Sequence[str]], index: int) -> Counter[str | None]:
    """The words at an index of several command lines, in any order."""
    return Counter(row[index] if index < len(row) else None for row in rows)


def _words(trace: TraceFile) -> list[str]:
    process = trace.head.process
    return process.argv if process else []


def _name_text(trace: TraceFile) -> str:
    """The name that `multiprocessing` or a thread gives, in brackets; else empty."""
    process = trace.head.process
    return f" ({process.name})" if process and process.name else ""


def _program_of(trace: TraceFile) -> Program:
    """The rank, the program with its name, and the restart."""
    process = trace.head.process
    name = next(iter(_words(trace)), "") + _name_text(trace)
    restart = (process and process.restart) or ""
    rank = (process and process.rank) or ""
    return rank, CHANGING.sub(HIDDEN, name), int(restart) if restart.isdecimal() else 0


def different_arguments(pairs: Sequence[ProcessPair], a: str, b: str) -> list[str]:
    """A note on the words of the command lines that differ between two runs; else empty."""
    texts: dict[str, None] = {}
    for pair in pairs:
        if pair.a is not None and pair.b is not None:
            words = zip_longest(_words(pair.a), _words(pair.b), fillvalue="nothing")
            texts |= {f"{x} and {y}": None for x, y in words if x != y}
    return [f"the command lines of {a} and {b} differ: {some(list(texts), 3)}"] if texts else []


def is_same_process(a: str, b: str) -> bool:
    """Whether two process texts name the same process, apart from hidden words."""
    texts = ((a, b), (b, a))
    return any(
        re.fullmatch(".*".join(map(re.escape, x.split(HIDDEN))), y, re.DOTALL) for x, y in texts
    )


def _has_later(process: RunProcess, run: dict[RunProcess, TraceFile]) -> bool:
    return any(
        (key.rank, key.argv) == (process.rank, process.argv) and key.restart > process.restart
        for key in run
    )


def missing_ranks(traces: Sequence[TraceFile]) -> list[str]:
    """The ranks without a record, according to the world size of the others."""
    have = {trace.head.process.rank for trace in traces if trace.head.process}
    return [str(rank) for rank in range(world_size(traces)) if str(rank) not in have]


def world_size(traces: Sequence[TraceFile]) -> int:
    """The largest recorded world size; 0 without ranks."""
    processes = [trace.head.process for trace in traces if trace.head.process]
    return max((process.world_size or 0 for process in processes), default=0)


def missing_text(missing: Mapping[int, Sequence[str]]) -> str:
    """The ranks without a record, with their runs, as a phrase."""
    runs: dict[str, list[str]] = {}
    for run, ranks in missing.items():
        runs.setdefault(f"{'rank' if len(ranks) == 1 else 'ranks'} {some(ranks)}", []).append(
            f"run {run}"
        )
    return "; ".join(f"{ranks} left no record in {some(names)}" for ranks, names in runs.items())


# Launchers


def port_warning(words: Sequence[str]) -> str:
    """A warning about a torchrun command without a rendezvous; else empty."""
    if not any(LAUNCHERS.search(word) for word in words):
        return ""
    if any(word.startswith(RENDEZVOUS) for word in words):
        return ""
    return f"torchrun uses port 29500, which another launch may use too: {STANDALONE}"


def first_failure(lines: Sequence[str]) -> str:
    """The first failed rank and its last line, from the output of torchrun; else empty."""
    causes = ROOT_CAUSE.findall("\n".join(lines))
    if not causes:
        return ""
    rank, code = causes[-1]
    ends = [-1, *(i for i, line in enumerate(lines) if DIED.search(line))]
    start = (
        lines[ends[-2] + 1 : ends[-1]] if len(ends) > 1 else lines
    )  # the last of several launches
    prefix = f"[rank{rank}]: "
    own = [line.removeprefix(prefix) for line in start if line.startswith(prefix)]
    if not own:  # it failed before it joined the process group
        own = [line for line in start if not line.startswith("[rank") and not AGENT.search(line)]
    how = f"killed by signal {code[1:]}" if code.startswith("-") else f"exit code {code}"
    last = next((line.strip() for line in reversed(own) if line.strip()), "")
    parts = [f"rank {rank} failed first, {how}", "" if code.startswith("-") else last]
    return ": ".join(filter(None, parts))
