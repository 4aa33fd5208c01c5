"""Limits of identical records: gaps in a record, and parts of a run that are not compared."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xorbench.options.option_text import option_text
from xorbench.programs.first_difference import Coverage
from xorbench.records.trace import TraceEnd, TraceFile
from xorbench.verdicts import counted, some

MOST_NAMES = 5  # files or classes listed in a line


class Gap(NamedTuple):
    """A part of a training that its record does not cover, with a hint."""

    text: str
    hint: str


NO_END = Gap(
    "its record has no last line: the process ended by os._exit, exec or a signal, or could not"
    " write, so later changes are unknown",
    "let the program return or call sys.exit()",
)
HOOKS_REMOVED = Gap(
    "the program removed the recorder's hooks, so later steps are unknown",
    "do not clear PyTorch's global hooks",
)

THREADS = Gap(
    "threads of the program train at the same time, so the order of their steps is random",
    "check each training in its own process",
)


def gap_of(end: TraceEnd | None) -> Gap | None:
    """Why a record does not cover the whole training of its process; None if it does."""
    if end is None:
        return NO_END
    if end.left_out:
        return Gap(
            f"its record lacks {counted(end.left_out, 'step')}: it reached --max-record, a limit"
            " on file sizes, or a full disk",
            option_text("raise the limit with {max_record}, or end the runs with {steps}"),
        )
    if end.unseen.hooks_removed:
        return HOOKS_REMOVED
    if end.unseen.thread_overlaps:
        return THREADS
    return None


def gap_between(coverage: Coverage, *, ended_by_parent: bool = False) -> Gap | None:
    """Why two identical records do not prove identical runs; None if they do.

    A process that its parent ends needs no last line.
    """
    ends = [end for end in coverage.ends if end is not None or not ended_by_parent]
    gap = next(filter(None, map(gap_of, ends)), None)
    if gap is not None:
        return gap
    if coverage.events_not_recorded:
        count = f"{coverage.events_not_recorded:,}"
        return Gap(f"{count} events of very long steps were not recorded", "")
    if coverage.errors:
        return Gap(f"the recorder failed: {some(sorted(set(coverage.errors)))}", "")
    if not coverage.parameters:
        return Gap("no parameter could be read", "")
    return None


def concurrent(traces: Iterable[TraceFile]) -> Gap | None:
    """The gap of a process in which several threads train; only one of them is recorded."""
    ends = [trace.end() for trace in traces]
    parallel = [end for end in ends if end is not None and end.unseen.thread_overlaps]
    return gap_of(parallel[0]) if parallel else None


def trains_in_threads(traces: Iterable[TraceFile]) -> bool:
    """Whether several threads of a process train, at the same time or one after the other."""
    unseen = [end.unseen for trace in traces if (end := trace.end()) is not None]
    return any(each.thread_overlaps or each.thread_followers for each in unseen)


def not_compared(
    coverages: Sequence[Coverage], files: Sequence[str] = (), commands: Sequence[str] = ()
) -> list[str]:
    """The parts of the runs that were not compared, one phrase per part.

    `files` were too large to be read; `commands` ran Python without the recorder.
    """
    ends = [end for coverage in coverages for end in coverage.ends if end is not None]
    calls = max((end.unseen.evaluations for end in ends), default=0)
    tensors = max((end.unseen.tensors for end in ends), default=0)
    models = dict.fromkeys(name for end in ends for name in end.unseen.models)
    lists = (
        ("weights of models that are not trained", models),
        ("large saved files", files),
        ("processes without the recorder", commands),
    )
    parts = [f"evaluation after the last step ({counted(calls, 'call')})"] if calls else []
    if tensors:
        parts.append(f"{counted(tensors, 'tensor')} with a gradient that no optimizer has")
    return parts + [f"{name} ({some(list(items), MOST_NAMES)})" for name, items in lists if items]
