"""Limits of equal records: why they may not prove equal runs, and what they do not compare."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xorbench.options.option_text import option_text
from xorbench.programs.first_difference import Coverage
from xorbench.records.trace import TraceEnd, TraceFile
from xorbench.verdicts import counted, some

MOST_NAMES = 5  # files or classes that a line names


class Gap(NamedTuple):
    """A part of a training that its record does not cover, in words, and what to do."""

    text: str
    hint: str


NO_END = Gap(
    "its record has no last line: the process ended by os._exit, exec or a signal, or could no"
    " longer write, so later changes are unknown",
    "let the program return or call sys.exit()",
)
HOOKS_REMOVED = Gap(
    "the program removed the recorder's hooks, so later steps are unknown",
    "do not clear PyTorch's global hooks",
)

THREADS = Gap(
    "threads of the program train at the same time, so the order of their steps is chance",
    "check each training in a process of its own",
)


def gap_of(end: TraceEnd | None) -> Gap | None:
    """Why a record does not cover the whole training of its process; None if it does."""
    if end is None:
        return NO_END
    if end.left_out:
        return Gap(
            f"its record lacks {counted(end.left_out, 'step')}: it reached --max-record, a limit"
            " on the size of files, or a full disk",
            option_text("allow more with {max_record}, or end the runs with {steps}"),
        )
    if end.unseen.hooks_removed:
        return HOOKS_REMOVED
    if end.unseen.thread_overlaps:
        return THREADS
    return None


def gap_between(coverage: Coverage, *, ended_by_parent: bool = False) -> Gap | None:
    """Why two equal records do not show that the runs are identical; None if they do.

    A process that is `ended_by_parent` may end anywhere.
    """
    ends = [end for end in coverage.ends if end is not None or not ended_by_parent]
    gap = next(filter(None, map(gap_of, ends)), None)
    if gap is not None:
        return gap
    if coverage.events_left_out:
        count = f"{coverage.events_left_out:,}"
        return Gap(f"{count} events of very long steps were not recorded", "")
    if coverage.errors:
        return Gap(f"the recorder failed: {some(sorted(set(coverage.errors)))}", "")
    if not coverage.parameters:
        return Gap("no parameter could be read", "")
    return None


def concurrent(traces: Iterable[TraceFile]) -> Gap | None:
    """The gap of a process whose training was not the only one; which was recorded is chance."""
    ends = [trace.end() for trace in traces]
    parallel = [end for end in ends if end is not None and end.unseen.thread_overlaps]
    return gap_of(parallel[0]) if parallel else None


def not_compared(
    coverages: Sequence[Coverage], files: Sequence[str] = (), commands: Sequence[str] = ()
) -> list[str]:
    """The parts of the runs that were not compared, a phrase each.

    `files` were saved in the working folder; `commands` ran Python without the recorder.
    """
    ends = [end for coverage in coverages for end in coverage.ends if end is not None]
    calls = max((end.unseen.evaluations for end in ends), default=0)
    tensors = max((end.unseen.tensors for end in ends), default=0)
    models = dict.fromkeys(name for end in ends for name in end.unseen.models)
    lists = (
        ("weights of models that are not trained", models),
        ("saved files", files),
        ("processes without the recorder", commands),
    )
    parts = [f"evaluation after the last step ({counted(calls, 'call')})"] if calls else []
    if tensors:
        parts.append(f"{counted(tensors, 'tensor')} with a gradient that no optimizer has")
    return parts + [f"{name} ({some(list(items), MOST_NAMES)})" for name, items in lists if items]
