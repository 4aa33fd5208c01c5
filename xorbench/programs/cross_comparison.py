"""The runs of two commands compared, without what only their source decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace as changed

from xorbench.programs.command_runs import saved_files, without_recorder
from xorbench.programs.conclusion import CheckRuns, RunPair
from xorbench.programs.event_names import label, when
from xorbench.programs.first_difference import Compared, compare
from xorbench.programs.run_processes import paired
from xorbench.records.ended import Ended
from xorbench.records.trace import TraceEnd, TraceEvent, TraceFile, TraceLine, TraceStep
from xorbench.verdicts import counted

SIDES: Final = ("A", "B")
# One that does not change the result, such as `foreach`, is not reported.
HYPERPARAMETERS: Final = ("hyperparameters",)
CALLS: Final = (*HYPERPARAMETERS, "call", "batch", "input")


@dataclass(frozen=True)
class CrossTrace(TraceFile):
    """A trace that is compared with that of another program.

    It lacks the arguments, the names of classes, and the outputs of modules, which have such names.
    """

    source: TraceFile

    def all_lines(self) -> Iterator[TraceLine]:
        """The lines, with every event that is left."""
        for line in self.source.all_lines():
            if isinstance(line, TraceStep):
                yield changed(line, events=_without_names(line.events))
            else:
                yield line

    def end(self) -> TraceEnd | None:
        """The end, which has no such names."""
        return self.source.end()


def _without_names(events: Sequence[TraceEvent]) -> list[TraceEvent]:
    return [
        changed(event, more=changed(event.more, name="")) if event.kind == "call" else event
        for event in events
        if event.kind != "output"
    ]


def cross_traces(run: Ended) -> list[TraceFile]:
    """The traces of a run, to be paired and compared with those of another command."""
    traces: list[TraceFile] = []
    for trace in run.traces:
        process = trace.head.process
        head = changed(trace.head, process=process and changed(process, argv=[]))
        traces.append(CrossTrace(trace.path, head, trace))
    return traces


def compare_commands(a: Ended, b: Ended, count: int = 1) -> CheckRuns:
    """A run of B compared with one of A, process by process; `count` runs of each were made."""
    observed = CheckRuns(runs=2)
    observed.same_text = f"B has the bits of A in {counted(count, 'run')} of each"
    observed.files, observed.commands = saved_files([a, b]), without_recorder([a, b])
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
    """A process of A compared with one of B, and a note on their calls.

    Where the calls differ, parameters, buffers and losses decide.
    """
    compared = compare(a.lines(), b.lines(), a.head.generators, HYPERPARAMETERS)
    first = compared.first
    if first is None or first.how != "events":
        return compared, ""
    values = compare(a.lines(), b.lines(), a.head.generators, CALLS)
    if values.first is not None:
        return compared, ""
    calls = f"B makes other calls than A, first in {when(first)}, in {label(first)}"
    return values, f"{calls}; its parameters, buffers and losses are equal"
