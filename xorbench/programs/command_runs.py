"""The recorded runs of a command: how they ended, and where they differ."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Final

from xorbench.options.option_text import option_text
from xorbench.programs.conclusion import CheckRuns, Conclusion, DetailedPair, RunPair
from xorbench.programs.elements import Difference, between
from xorbench.programs.first_difference import (
    Compared,
    FirstDifference,
    compare,
    later_step_with,
    weights,
)
from xorbench.programs.limits import concurrent
from xorbench.programs.rank_agreement import agreement_of
from xorbench.programs.run_processes import (
    ON_THIS_MACHINE,
    PORT_TAKEN,
    STANDALONE,
    ProcessPair,
    different_arguments,
    first_failure,
    is_same_process,
    missing_ranks,
    missing_text,
    paired,
)
from xorbench.programs.saved_files import compared_files
from xorbench.programs.trainings import job_pairs
from xorbench.records.ended import KILLED, LAST_LINES, Ended
from xorbench.records.trace import PresenceLine, TracedSource, TraceFile, is_kept_outside
from xorbench.verdicts import counted, some

MANY_LINES: Final = 1_000  # of a command's output: each rank writes its own traceback
KEEP_RECORDS: Final = "the program must not remove the folder that XORBENCH_RECORD names"
LONGER: Final = option_text("allow more time with {timeout}")
OUTLIVED: Final = "the training runs in a process that outlived the command"
OTHER_PYTHON: Final = "give the interpreter of the training, such as -- venv/bin/python train.py"
WAIT: Final = "let the command wait until the training has ended"
RECORDED: Final = "only step() of optimizers of torch.optim and of their subclasses is recorded"
BY_THREAD: Final = "-threads"  # the end of the name of a run with one record per thread
BY_THREAD_TEXT: Final = "several threads of the program train"
LONGEST_COMMAND: Final = 80  # characters of a command in the answer
# Processes that PyTorch starts: to compile, and to load a library that it has compiled.
HELPERS: Final = re.compile(r"compile_worker|LoadLibrary|_inductor|\.so\b")
WITHOUT: Final = (
    "PYTHONPATH was replaced for an absolute path, or for the Python of an activated environment:"
    " write PYTHONPATH=src:$PYTHONPATH instead of PYTHONPATH=src"
)
# Commands that prevent loading the recorder, which needs PYTHONPATH and Python's `site`.
BLOCKING: Final = (
    (re.compile(r"(^|/)python[\d.]*\s+(-\w+\s+)*-\w*[IES]\w*\b"), "python -I, -E or -S"),
    (re.compile(r"(^|/)env\s+(-i\b|-\s|--ignore-environment)"), "env -i"),
    (re.compile(r"(^|/)(docker|podman|apptainer|singularity)\s"), "a container"),
    (re.compile(r"(^|/)(ssh|srun|kubectl|sky|ray)\s"), "a launcher for other machines"),
    (re.compile(r"(^|/)(sudo|su)\s"), "sudo"),
)


def observe(words: Sequence[str], runs: Sequence[Ended]) -> CheckRuns:
    """Compare every run with the first, process by process."""
    observed = CheckRuns(runs=len(runs), notes=notes_of(runs))
    agreement = agreement_of(runs)
    observed.trouble = why_not_comparable(words, runs) or agreement.failure or _concurrent(runs)
    if observed.trouble is not None:
        return observed
    observed.ranks = agreement.text
    observed.commands = without_recorder(runs)
    observed.files = compared_files([run.folder for run in runs])
    missing = {run.number: ranks for run in runs if (ranks := missing_ranks(run.traces))}
    for run in runs[1:]:
        pairs = paired(runs[0].traces, run.traces)
        if any(pair.shares_jobs and _differ(pair) for pair in pairs):
            jobs = job_pairs([pair for pair in pairs if pair.shares_jobs])
            pairs = [*(pair for pair in pairs if not pair.shares_jobs), *jobs]
        observed.notes += different_arguments(pairs, "run 1", f"run {run.number}")
        for pair in pairs:
            _observe_pair(observed, pair, (runs[0], run), missing)
    if observed.diverged is None:
        _check_unpaired(observed, runs)
    if observed.diverged is None and not observed.unpaired:
        observed.trouble = _identical_so_far(runs, missing) or observed.trouble
    return observed


def _concurrent(runs: Sequence[Ended]) -> Conclusion | None:
    """Inconclusive if several threads of a process train, because their order is random."""
    for run in runs:
        if (gap := concurrent(run.traces)) is not None:
            return Conclusion("inconclusive", f"run {run.number}: {gap.text}", hint=gap.hint)
    return None


def _identical_so_far(
    runs: Sequence[Ended], missing: Mapping[int, Sequence[str]]
) -> Conclusion | None:
    """Inconclusive if nothing differs, but a record is missing or a run was killed."""
    for run in runs:
        if run.how in KILLED:
            finding = f"run {run.number} {cut_short(run)}; its steps until then are identical"
            hint = option_text("end the runs with {steps}, or allow more time with {timeout}")
            return Conclusion("inconclusive", finding, hint=hint)
    if missing:
        finding = f"{missing_text(missing)}; the records of the other ranks are identical"
        return Conclusion("inconclusive", finding, hint=ON_THIS_MACHINE)
    return None


def _observe_pair(
    observed: CheckRuns,
    pair: ProcessPair,
    runs: tuple[Ended, Ended],
    missing: Mapping[int, Sequence[str]],
) -> None:
    """Compare a process of two runs, or note that it exists in only one of them."""
    if pair.a is not None and pair.b is not None:
        observed.pairs.append(_pair(pair, runs, pair.a, pair.b))
        return
    numbers = runs[0].number, runs[1].number
    lacking, having = numbers if pair.a is None else numbers[::-1]
    if pair.process.rank not in missing.get(lacking, []):
        observed.unpaired.append(f"run {having} trains in {pair.process}, run {lacking} does not")


def cut_short(run: Ended) -> str:
    """How a killed run ended, as a phrase."""
    if run.how == "timeout":
        return f"did not end within {run.wall_s:.0f} s and was killed"
    return f"was killed after {run.wall_s:.0f} s, together with xorbench"


def _pair(process: ProcessPair, runs: tuple[Ended, Ended], a: TraceFile, b: TraceFile) -> RunPair:
    """Compare a process of two runs, each of which may have been killed."""
    compared = compare(a.lines(), b.lines(), a.head.generators)
    first = compared.first
    if first is not None and (
        (process.restarted and _at_end(first))
        or (first.how == "steps" and runs[_shorter(first)].how in KILLED)
    ):
        # the launcher or xorbench ended it, not the program
        compared, first = Compared(compared.coverage, None), None
    pair = RunPair(
        str(process.process),
        compared,
        f"run {runs[1].number}",
        ended_by_parent=process.ended_by_parent,
        shares_jobs=process.shares_jobs,
    )
    if first is not None and first.step == 0 and first.event.kind == "parameter":
        start = next(iter(b.lines()), None)
        if start is not None:
            pair.resumed_from = later_step_with(a.lines(), weights(start))
    return pair


def without_recorder(runs: Sequence[Ended]) -> list[str]:
    """The commands that started Python without loading the recorder."""
    commands: dict[str, None] = {}
    for run in runs:
        loaded = run.events("python")[1:]  # the first is the command itself
        for started in run.events("started"):
            match = next(
                (line for line in loaded if _started_by(line, started, run.presence)), None
            )
            if match is None:
                commands[started.command] = None
            else:
                loaded.remove(match)
    own = (text for text in commands if not HELPERS.search(text))
    return list(dict.fromkeys(shorten(text, LONGEST_COMMAND, placeholder=" …") for text in own))


def _started_by(loaded: PresenceLine, started: PresenceLine, lines: Sequence[PresenceLine]) -> bool:
    """Whether a command started this interpreter, by its program and its parent.

    The parent may be a shell, which leaves no line.
    """
    known = {line.pid for line in lines}
    parents = {started.pid} if loaded.parent in known else {loaded.parent}
    return loaded.parent in parents and _program(loaded.argv) in started.command


def _program(argv: Sequence[str]) -> str:
    """The script, module or code that an interpreter runs; else the interpreter itself."""
    words = [word for word in argv[1:] if not word.startswith("-")] or argv
    return Path(words[0]).name if words else ""


def _differ(pair: ProcessPair) -> bool:
    """Whether the records of a process differ, one is missing, or one has more steps."""
    if pair.a is None or pair.b is None or pair.a.step_count != pair.b.step_count:
        return True
    return compare(pair.a.lines(), pair.b.lines()).first is not None


def _shorter(first: FirstDifference) -> int:
    """The side with fewer steps: 0 or 1."""
    a, b = first.steps
    return int(b < a)


def _at_end(first: FirstDifference) -> bool:
    """Whether the difference is after the last step that both sides have completed."""
    return first.how == "steps" or first.at_end


# Runs that are not comparable


def why_not_comparable(words: Sequence[str], runs: Sequence[Ended]) -> Conclusion | None:
    """The conclusion if the runs are not comparable; None if they are."""
    if (failure := _failure(words, runs)) is not None:
        return failure
    for run in runs:
        if run.lost_records:
            finding = f"run {run.number}: {run.lost_records}"
            return Conclusion("inconclusive", finding, hint=KEEP_RECORDS)
        if run.how == "timeout" and not run.traces:
            finding = f"run {run.number} did not end within {run.wall_s:.0f} s and made no step"
            return Conclusion("inconclusive", finding, hint=LONGER)
    if (outlived := trained_longer(runs)) is not None:
        return outlived
    if not any(trace.has_steps for run in runs for trace in run.traces):
        return _left_behind(runs) or _no_step(words, runs[-1])
    return None


def _failure(words: Sequence[str], runs: Sequence[Ended]) -> Conclusion | None:
    """Fail if the command cannot be run, or failed."""
    for run in runs:
        if run.how == "refused":
            command = (words or ("python",))[0]
            return Conclusion("fail", f"the command cannot be run: {command}: {run.why}")
        if run.how == "ended" and run.code != 0:
            before = f", run {run.number - 1} did not" if len(runs) > 1 else ""
            reason = f"{run.exit_text}: {last_output(run)}"
            finding = f"the command failed in run {run.number}{before}: {reason}"
            return Conclusion("fail", finding, hint=_failure_hint(run))
    return None


def trained_longer(runs: Sequence[Ended]) -> Conclusion | None:
    """Inconclusive if a process outlived the command and was killed while it trained."""
    for run in runs:
        if any(trace.pid in run.left_pids and trace.end() is None for trace in run.traces):
            finding = f"run {run.number}: {OUTLIVED} and was killed"
            return Conclusion("inconclusive", finding, hint=WAIT)
    return None


def _check_unpaired(observed: CheckRuns, runs: Sequence[Ended]) -> None:
    """Do not report a missing training that xorbench may have killed before it began."""
    outlived = _left_behind(runs)
    if observed.unpaired and outlived is not None:
        observed.trouble = outlived
        observed.unpaired.clear()


def _left_behind(runs: Sequence[Ended]) -> Conclusion | None:
    """Inconclusive if a process outlived the command and may have been about to train."""
    numbers = " and ".join(str(run.number) for run in runs if run.left)
    if not numbers:
        return None
    killed = f"run {numbers} left processes running, which were killed"
    finding = f"{killed}; they may have been about to train"
    return Conclusion("inconclusive", finding, hint=WAIT)


def last_output(run: Ended) -> str:
    """The last output line of a run; for a launcher, the first failed rank and the reason."""
    lines = run.last_lines(MANY_LINES)
    last = lines[-1].strip() if lines else "no output"
    return (first_failure(lines) or last)[:200]


def _failure_hint(run: Ended) -> str:
    """The hint for a command that failed."""
    lines = run.last_lines(MANY_LINES)
    if any("EOFError" in line for line in lines[-LAST_LINES:]):
        return "standard input is empty in a check: pass the input as arguments"
    if any(PORT_TAKEN.search(line) for line in lines):
        return f"another launch uses the port: {STANDALONE}"
    if any("No module named 'torch'" in line for line in lines[-LAST_LINES:]):
        return OTHER_PYTHON
    return f"its output is in {run.folder}"


def _no_step(words: Sequence[str], run: Ended) -> Conclusion:
    """Why no step was recorded, as far as the records show."""
    failed = run.events("failed")
    blocking = [name for pattern, name in BLOCKING if pattern.search(shlex.join(words))]
    if failed:
        reason, hint = f"the recorder does not work with this PyTorch: {failed[0].why}", ""
    elif began_a_step(run):
        reason = "backward passes were recorded, but no step of an optimizer of torch.optim"
        hint = "compiled steps and optimizers outside torch.optim are not recorded"
    elif run.events("torch"):
        reason, hint = "PyTorch was imported, but no optimizer of torch.optim made a step", RECORDED
    elif blocking:
        reason, hint = f"{blocking[0]} prevents loading the recorder", "run the training itself"
    elif missed := without_recorder([run]):
        reason, hint = f"Python ran without the recorder: {missed[0]}", WITHOUT
    elif run.events("python"):
        reason, hint = "no process imported PyTorch", RECORDED
    else:
        reason = "no Python interpreter loaded the recorder"
        hint = f"{WITHOUT}; python -I, -E, -S, env -i and containers also prevent loading it"
    return Conclusion("inconclusive", f"no training step was recorded: {reason}", hint=hint)


def began_a_step(run: Ended) -> bool:
    """Whether a record ends between a backward pass and the optimizer's step."""
    ends = (trace.end() for trace in run.traces)
    return any(end is not None and not end.complete for end in ends)


def notes_of(runs: Sequence[Ended]) -> list[str]:
    """Notes on the runs: processes left running, and files outside the working folder."""
    notes = [
        f"run {run.number} left processes running, which were killed: {', '.join(run.left)}"
        for run in runs
        if run.left
    ]
    notes += [
        f"run {run.number} ended with {run.exit_text} after --steps had ended a training:"
        f" {last_output(run)}"
        for run in runs
        if run.how == "stopped" and run.code
    ]
    if any(run.folder.name.endswith(BY_THREAD) for run in runs):
        notes.append(f"{BY_THREAD_TEXT}; each thread has its own record")
    if outside := written_outside(runs):
        paths = some(outside, 3)
        notes.append(f"files were written outside the working folder, for all runs: {paths}")
    return notes


def written_outside(runs: Sequence[Ended]) -> list[str]:
    """The files that the runs wrote outside the working folder and did not delete."""
    outside = {line.path: line for run in runs for line in run.events("outside")}
    return [path for path, line in outside.items() if is_kept_outside(line)]


def describe_end(run: Ended, stopped: str = "stopped after the requested steps") -> str:
    """How a run ended, for a line of progress."""
    how = {
        "ended": run.exit_text,
        "stopped": stopped,
        "timeout": "killed at the time limit",
        "refused": run.why,
        "abandoned": "killed",
    }
    counts = [trace.step_count for trace in run.traces]
    training = sum(count > 0 for count in counts)
    processes = f" of {training} processes" if training > 1 else ""
    return f"{counted(sum(counts), 'step')}{processes}, {run.wall_s:.1f} s, {how[run.how]}"


# Detailed recording


def traces_of(run: Ended) -> list[TraceFile]:
    """The traces of a run's processes."""
    return run.traces


def detailed_pair(
    pair: RunPair,
    runs: Sequence[Ended],
    read: Callable[[Ended], list[TraceFile]] = traces_of,
) -> DetailedPair:
    """The first difference of two runs with detailed recording, in the process of the pair."""
    for process in paired(*map(read, runs)):
        a, b = process.a, process.b
        same = is_same_process(str(process.process), pair.process)
        if same and a is not None and b is not None:
            first = compare(a.lines(), b.lines(), a.head.generators).first
            element = None if first is None else _element(first, a, b)
            a.keep_only(None if first is None else first.a)
            b.keep_only(None if first is None else first.b)
            return DetailedPair(first, element, (sources_of(a), sources_of(b)))
    return DetailedPair(None)


def noted_sources(
    pair: RunPair, run: Ended, read: Callable[[Ended], list[TraceFile]] = traces_of
) -> DetailedPair:
    """The notes of a single run with detailed recording, in the process of the pair."""
    traces = read(run)
    notes = [
        sources_of(process.a)
        for process in paired(traces, traces)
        if str(process.process) == pair.process and process.a is not None
    ]
    sources = notes[0] if notes else ()
    return DetailedPair(None, None, (sources, sources), is_pair=False)


def sources_of(trace: TraceFile) -> Sequence[TracedSource]:
    """The notes on seeds and sources in the last line of a trace."""
    end = trace.end()
    return () if end is None else end.sources


def _element(first: FirstDifference, a: TraceFile, b: TraceFile) -> Difference | None:
    if first.a is None or first.b is None:
        return None
    return between(first.a, first.b, a.values(first.a), b.values(first.b))
