"""Compare runs of two commands without names that depend only on their source code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace as changed

from xorbench.programs.command_runs import without_recorder
from xorbench.programs.conclusion import CheckRuns, RunPair
from xorbench.programs.event_names import label, when
from xorbench.programs.first_difference import Compared, compare
from xorbench.programs.run_processes import paired
from xorbench.programs.saved_files import compared_files
from xorbench.records.ended import Ended
from xorbench.records.trace import TraceEnd, TraceEvent, TraceFile, TraceLine, TraceStep
from xorbench.verdicts import counted

SIDES: Final = ("A", "B")
# Not compared themselves: one without effect on the result, such as `foreach`, is not a difference.
HYPERPARAMETERS: Final = ("hyperparameters",)
CALLS: Final = (*HYPERPARAMETERS, "call", "batch", "input")


@dataclass(frozen=True)
class CrossTrace(TraceFile):
    """A trace without names that depend only on the program's source code.

    It has no arguments, no class names, and no outputs of modules, which carry such names.
    """

    source: TraceFile

    def all_lines(self) -> Iterator[TraceLine]:
        """The lines, with the remaining events."""
        for line in self.source.all_lines():
            if isinstance(line, TraceStep):
                yield changed(line, events=_without_names(line.events))
            else:
                yield line

    def end(self) -> TraceEnd | None:
        """The last line, which has no such names."""
        return self.source.end()


def _without_names(events: Sequence[TraceEvent]) -> list[TraceEvent]:
    return [
        changed(event, more=changed(event.more, name="")) if event.kind == "call" else event
        for event in events
        if event.kind != "output"
    ]


def cross_traces(run: Ended) -> list[TraceFile]:
    """The traces of a run, for comparison with a different command."""
    traces: list[TraceFile] = []
    for trace in run.traces:
        process = trace.head.process
        head = changed(trace.head, process=process and changed(process, argv=[]))
        traces.append(CrossTrace(trace.path, head, trace))
    return traces


def compare_commands(a: Ended, b: Ended, count: int = 1) -> CheckRuns:
    """Compare a run of B with a run of A, process by process, after `count` runs of each."""
    observed = CheckRuns(runs=2)
    observed.identical_text = f"B is bitwise identical to A in {counted(count, 'run')} of each"
    observed.commands = without_recorder([a, b])
    observed.files = compared_files([a.folder, b.folder])
    for process in paired(cross_traces(a), cross_traces(b)):
        name = str(process.process)
        if process.a is None or process.b is None:
            having, lacking = SIDES if process.b is None else SIDES[::-1]
            observed.unpaired.append(f"{having} trains in {name}, {lacking} does not")
            continue
        compared, note = compared_across(process.a, process.b)
        observed.pairs.append(
            RunPair(name, compared, "B", "A", ended_by_parent=process.ended_by_parent)
        )
        observed.notes += [note] if note else []
    return observed


def compared_across(a: TraceFile, b: TraceFile) -> tuple[Compared, str]:
    """Compare a process of A with a process of B, and note different module calls.

    If the calls differ, parameters, buffers and losses decide.
    """
    compared = compare(a.lines(), b.lines(), a.head.generators, HYPERPARAMETERS)
    first = compared.first
    if first is None or first.how != "events":
        return compared, ""
    values = compare(a.lines(), b.lines(), a.head.generators, CALLS)
    if values.first is not None:
        return compared, ""
    calls = f"the module calls of A and B differ, first in {when(first)}, in {label(first)}"
    return values, f"{calls}; parameters, buffers and losses are identical"
