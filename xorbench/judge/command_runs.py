"""What the recorded runs of a command show: how they ended, and where two of them differ."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from xorbench.judge.check import CheckRuns, Closer, RunPair
from xorbench.judge.elements import Difference, between
from xorbench.judge.first_difference import (
    Compared,
    FirstDifference,
    compare,
    later_step_with,
    weights,
)
from xorbench.judge.limits import concurrent
from xorbench.judge.run_processes import (
    ON_THIS_MACHINE,
    PORT_TAKEN,
    STANDALONE,
    ProcessPair,
    first_failure,
    missing_ranks,
    paired,
    said_missing,
)
from xorbench.judge.verdicts import Outcome, counted, some
from xorbench.observe import trace as traces
from xorbench.observe.ended import KILLED, LAST_LINES, Ended
from xorbench.observe.trace import PresenceLine, TraceEnd, TraceFile
from xorbench.plan.option_text import option_text

JOBS: Final = (
    "the records of the processes of a pool differ, which take their jobs as they come: whether the"
    " jobs differ is unknown"
)
MANY_LINES: Final = 1_000  # of what a command wrote: each rank writes the end of its own
KEEP_RECORDS: Final = "the program must not remove the folder that XORBENCH_RECORD names"
LONGER: Final = option_text("give it longer with {timeout}")
# What keeps the recorder out: it comes in through PYTHONPATH and Python's `site`.
CLOSED: Final = (
    (re.compile(r"(^|/)python[\d.]*\s+(-\w+\s+)*-\w*[IES]\w*\b"), "python -I, -E or -S"),
    (re.compile(r"(^|/)env\s+(-i\b|-\s|--ignore-environment)"), "env -i"),
    (re.compile(r"(^|/)(docker|podman|apptainer|singularity)\s"), "a container"),
    (re.compile(r"(^|/)(ssh|srun|kubectl|sky|ray)\s"), "a launcher for other machines"),
    (re.compile(r"(^|/)(sudo|su)\s"), "sudo"),
)


def observe(words: Sequence[str], ended: list[Ended]) -> CheckRuns:
    """Compare every run with the first, process by process."""
    observed = CheckRuns(runs=len(ended))
    observed.trouble = trouble(words, ended)
    observed.notes = notes_of(ended)
    if observed.trouble is not None:
        return observed
    runs = {one.number: one.traces for one in ended}
    observed.files, observed.commands = saved_files(ended), without_recorder(ended)
    for number, run in runs.items():
        if (gap := concurrent(run)) is not None:
            observed.trouble = ("inconclusive", f"run {number}: {gap.text}", gap.hint)
            return observed
    missing = {run: ranks for run, found in runs.items() if (ranks := missing_ranks(found))}
    for other in ended[1:]:
        killed = (ended[0].how in KILLED, other.how in KILLED)
        numbers = (ended[0].number, other.number)
        pairs = paired(*(runs[number] for number in numbers))
        if any(pair.in_pool and _differ(pair) for pair in pairs):
            observed.trouble = ("inconclusive", JOBS, "check with one process in the pool")
            return observed
        for pair in pairs:
            _observe_pair(observed, pair, numbers, killed, missing)
    _excuse_unpaired(observed, ended)
    if missing and observed.diverged is None and not observed.unpaired:
        observed.trouble = (
            "inconclusive",
            f"{said_missing(missing)}; what the others recorded is the same",
            ON_THIS_MACHINE,
        )
    cut = [one for one in ended if one.how in KILLED]
    if cut and observed.diverged is None and not observed.unpaired:
        observed.trouble = (
            "inconclusive",
            f"run {cut[0].number} {cut_short(cut[0])}; the steps until then are the same",
            option_text("end the runs with {steps}, or give them longer with {timeout}"),
        )
    return observed


def _observe_pair(
    observed: CheckRuns,
    pair: ProcessPair,
    numbers: tuple[int, int],
    killed: tuple[bool, bool],
    missing: Mapping[int, Sequence[str]],
) -> None:
    """Compare a process of two runs, or note that one of them does not have it."""
    if pair.a is not None and pair.b is not None:
        observed.pairs.append(_pair(pair, numbers[1], pair.a, pair.b, killed))
        return
    lacking, having = numbers if pair.a is None else numbers[::-1]
    if pair.process.rank not in missing.get(lacking, []):
        observed.unpaired.append(f"run {having} trains in {pair.process}, run {lacking} does not")


def cut_short(one: Ended) -> str:
    """How a run that was killed ended, in words."""
    if one.how == "timeout":
        return f"did not end within {one.wall_s:.0f} s and was killed"
    return f"was killed after {one.wall_s:.0f} s, with this program"


def _pair(
    of: ProcessPair, number: int, a: TraceFile, b: TraceFile, killed: tuple[bool, bool]
) -> RunPair:
    """Compare a process of two runs, of which either may have been killed."""
    compared = compare(a.lines(), b.lines(), a.head.generators)
    first = compared.first
    if first is not None and (
        (of.restarted and _at_end(first)) or (first.how == "steps" and killed[_shorter(first)])
    ):
        # where the launcher ended it, or we did, is nothing that the program decides
        compared = Compared(compared.coverage, None)
    pair = RunPair(str(of.process), compared, f"run {number}", ended_by_parent=of.ended_by_parent)
    first = compared.first
    if first is not None and first.step == 0 and first.event.kind == "parameter":
        begins = next(iter(b.lines()), None)
        if begins is not None:
            pair.resumed_from = later_step_with(a.lines(), weights(begins))
    return pair


def saved_files(ended: Sequence[Ended]) -> list[str]:
    """The files in the working folder that the runs have written."""
    return list(dict.fromkeys(path for run in ended for path in run.saved))


def without_recorder(ended: Sequence[Ended]) -> list[str]:
    """The commands that start Python, and of which no interpreter has loaded the recorder."""
    commands: dict[str, None] = {}
    for run in ended:
        lines = traces.presence(run.records)
        # the first one is the command itself
        loaded = [line for line in lines if line.event == "python"][1:]
        for line in lines:
            if line.event == "started":
                ours = next((one for one in loaded if _is_of(one, line, lines)), None)
                if ours is None:
                    commands[line.command] = None
                else:
                    loaded.remove(ours)
    return list(commands)


def _is_of(loaded: PresenceLine, started: PresenceLine, lines: Sequence[PresenceLine]) -> bool:
    """Whether an interpreter is that of a command: by its program and its parent.

    The parent may be a shell in between, which has left no line.
    """
    known = {line.pid for line in lines}
    parents = {started.pid} if loaded.parent in known else {loaded.parent}
    return loaded.parent in parents and _program(loaded.argv) in started.command


def _program(argv: Sequence[str]) -> str:
    """The script, module or code that an interpreter runs; the interpreter itself without one."""
    words = [word for word in argv[1:] if not word.startswith("-")] or argv
    return Path(words[0]).name if words else ""


def _differ(pair: ProcessPair) -> bool:
    """Whether the records of a process differ, or one run lacks it."""
    if pair.a is None or pair.b is None:
        return True
    return compare(pair.a.lines(), pair.b.lines()).first is not None


def _shorter(first: FirstDifference) -> int:
    """Which side has fewer steps: 0 or 1."""
    a, b = first.steps
    return int(b < a)


def _at_end(first: FirstDifference) -> bool:
    """Whether the difference is after the last step that both sides have completed."""
    return first.how == "steps" or first.at_end


# Why there is nothing to compare


def trouble(words: Sequence[str], ended: list[Ended]) -> tuple[Outcome, str, str] | None:
    """Why there is nothing to compare: what it comes to, a sentence, a hint."""
    if (failure := _failure(words, ended)) is not None:
        return failure
    for one in ended:
        if one.lost_records:
            return ("inconclusive", f"run {one.number}: {one.lost_records}", KEEP_RECORDS)
        if one.how == "timeout" and not one.traces:
            said = f"run {one.number} did not end within {one.wall_s:.0f} s, and made no step"
            return ("inconclusive", said, LONGER)
    if (outlived := trained_longer(ended)) is not None:
        return outlived
    if not any(any(trace.steps()) for one in ended for trace in one.traces):
        return _left_behind(ended) or ("inconclusive", *_no_step(words, ended[-1]))
    return None


def _failure(words: Sequence[str], ended: list[Ended]) -> tuple[Outcome, str, str] | None:
    """Fail where the command cannot be run, or has failed."""
    for one in ended:
        if one.how == "refused":
            return (
                "fail",
                f"the command cannot be run: {(words or ('python',))[0]}: {one.why}",
                "",
            )
        if one.how == "ended" and one.code != 0:
            return _command_failed(one, ended)
    return None


def trained_longer(ended: Sequence[Ended]) -> tuple[Outcome, str, str] | None:
    """Inconclusive where a process that outlived the command was killed while it trained."""
    for one in ended:
        killed = [t for t in one.traces if t.pid in one.left_pids and t.end() is None]
        if killed:
            return ("inconclusive", f"run {one.number}: {OUTLIVED} and was killed", WAIT)
    return None


def _excuse_unpaired(observed: CheckRuns, ended: Sequence[Ended]) -> None:
    """Do not report a training that one run lacks if we may have killed it before it began."""
    outlived = _left_behind(ended)
    if observed.unpaired and observed.diverged is None and outlived is not None:
        observed.trouble = outlived
        observed.unpaired.clear()


def _left_behind(ended: Sequence[Ended]) -> tuple[Outcome, str, str] | None:
    """Inconclusive where a process that outlived the command may have been about to train."""
    numbers = [str(one.number) for one in ended if one.left]
    if not numbers:
        return None
    said = f"run {' and '.join(numbers)} left processes behind, which were killed"
    return ("inconclusive", f"{said}; they may have been about to train", WAIT)


OUTLIVED: Final = "the training runs in a process that outlived the command"
WAIT: Final = "let the command end after the training"


def _command_failed(one: Ended, ended: list[Ended]) -> tuple[Outcome, str, str]:
    before = f", run {one.number - 1} did not" if len(ended) > 1 else ""
    said = f"the command failed in run {one.number}{before}: {one.exit_said}: {last_said(one)}"
    return ("fail", said, _help(one))


def last_said(one: Ended) -> str:
    """What a run wrote last; of a launcher, which rank failed first and why."""
    lines = one.last_lines(MANY_LINES)
    last = lines[-1].strip() if lines else "it wrote nothing"
    return (first_failure(lines) or last)[:200]


def _help(one: Ended) -> str:
    """What to do about a command that failed."""
    lines = one.last_lines(MANY_LINES)
    if any("EOFError" in line for line in lines[-LAST_LINES:]):
        return "standard input is empty in a check: give what it asks for as arguments"
    if any(PORT_TAKEN.search(line) for line in lines):
        return f"another launch holds the port: {STANDALONE}"
    return f"what it wrote is in {one.folder}"


def step_count(trace: TraceFile) -> int:
    """How many steps a trace has."""
    return sum(1 for _ in trace.steps())


SEEN: Final = "what is seen is step() of an optimizer of torch.optim, or of a subclass of one"


def _no_step(words: Sequence[str], one: Ended) -> tuple[str, str]:
    """Why no step was seen, as far as can be told."""
    said = "no step of a training was seen"
    present = traces.presence(one.records)
    events = {line.event for line in present}
    failed = [line.why for line in present if line.event == "failed"]
    if failed:
        return f"{said}: the recorder does not work with this PyTorch: {failed[0]}", ""
    if any(end and not end.complete for end in ends(one)):
        return (
            f"{said}: there were backward passes, but no optimizer of torch.optim has stepped",
            "a step that is compiled, and an optimizer that is none of torch.optim, is not seen",
        )
    if "torch" in events:
        return f"{said}: PyTorch was imported, but no optimizer of torch.optim has stepped", SEEN
    closed = [name for pattern, name in CLOSED if pattern.search(shlex.join(words))]
    if closed:
        return f"{said}: the recorder cannot get in through {closed[0]}", "run the training itself"
    if "python" in events:
        return f"{said}: no process has imported PyTorch", SEEN
    return (
        f"{said}: no Python interpreter has loaded the recorder",
        "it is found through PYTHONPATH; python -I, -E, -S, env -i and containers shut it out",
    )


def ends(one: Ended) -> Iterator[TraceEnd | None]:
    """The end of each record of a run; None for a process that was killed."""
    return (trace.end() for trace in one.traces)


def notes_of(ended: list[Ended]) -> list[str]:
    """What should be known of the runs besides the answer."""
    notes = [
        f"run {one.number} left processes behind, which were killed: {', '.join(one.left)}"
        for one in ended
        if one.left
    ]
    if outside := written_outside(ended):
        said = some(outside, 3)
        notes.append(f"files were written outside the working folder, for all runs: {said}")
    return notes


def written_outside(ended: Sequence[Ended]) -> list[str]:
    """The files that the runs wrote outside the working folder, and that are still there."""
    lines = (line for one in ended for line in traces.presence(one.records))
    outside = {line.path: line for line in lines if line.event == "outside"}
    return [path for path, line in outside.items() if traces.is_kept_outside(line)]


def told(one: Ended) -> str:
    """How a run ended, in a few words."""
    how = {
        "ended": one.exit_said,
        "stopped": "stopped after its steps",
        "timeout": "out of time, killed",
        "refused": one.why,
        "abandoned": "killed",
    }
    counts = [step_count(trace) for trace in one.traces]
    training = sum(count > 0 for count in counts)
    of = f" of {training} processes" if training > 1 else ""
    return f"{counted(sum(counts), 'step')}{of}, {one.wall_s:.1f} s, {how[one.how]}"


# A closer look


def traces_of(one: Ended) -> list[TraceFile]:
    """The traces of a run's processes."""
    return one.traces


def looked_closer(
    pair: RunPair,
    one: Ended,
    other: Ended,
    read: Callable[[Ended], list[TraceFile]] = traces_of,
) -> Closer:
    """Where two runs in detail differ first, in the process that the pair is of."""
    for of in paired(read(one), read(other)):
        a, b = of.a, of.b
        if str(of.process) == pair.process and a is not None and b is not None:
            first = compare(a.lines(), b.lines(), a.head.generators).first
            return Closer(first, None if first is None else _element(first, a, b))
    return Closer(None)


def _element(first: FirstDifference, a: TraceFile, b: TraceFile) -> Difference | None:
    one, other = first.a, first.b
    if one is None or other is None:
        return None
    return between(one, other, a.values(one), b.values(other))
