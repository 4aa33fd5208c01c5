"""Match the processes of two runs of a command.

A rank is compared with the same rank. A restart by the launcher is a separate process.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class RunProcess:
    """The identity of a process in a run: rank, arguments, restart, and number among equals."""

    rank: str
    argv: str
    restart: int
    number: int

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
    def ended_by_parent(self) -> bool:
        """Whether another process ends it, so that its record needs no last line."""
        return self.restarted or self.in_pool


def paired(a: Sequence[TraceFile], b: Sequence[TraceFile]) -> list[ProcessPair]:
    """The processes of two runs, matched by rank, arguments, restart, and order."""
    left, right = keyed(a), keyed(b)
    keys = [*left, *(key for key in right if key not in left)]
    return [
        ProcessPair(
            key, left.get(key), right.get(key), _has_later(key, left) and _has_later(key, right)
        )
        for key in keys
    ]


def keyed(traces: Sequence[TraceFile]) -> dict[RunProcess, TraceFile]:
    """The traces of a run by process."""
    keys: dict[RunProcess, TraceFile] = {}
    for trace in traces:
        process = trace.head.process
        words = process.argv if process else []
        name = process.name if process else None
        argv = shlex.join(words) + (f" ({name})" if name else "")
        rank = (process and process.rank) or ""
        text = (process and process.restart) or ""
        restart = int(text) if text.isdecimal() else 0
        same = [key for key in keys if (key.rank, key.argv, key.restart) == (rank, argv, restart)]
        keys[RunProcess(rank, argv, restart, len(same))] = trace
    return keys


def _has_later(process: RunProcess, run: dict[RunProcess, TraceFile]) -> bool:
    return any(
        (key.rank, key.argv) == (process.rank, process.argv) and key.restart > process.restart
        for key in run
    )


def missing_ranks(traces: Sequence[TraceFile]) -> list[str]:
    """The ranks without a record, according to the world size of the others."""
    processes = [trace.head.process for trace in traces if trace.head.process]
    world = max((process.world_size or 0 for process in processes), default=0)
    have = {process.rank for process in processes}
    return [str(rank) for rank in range(world) if str(rank) not in have]


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
