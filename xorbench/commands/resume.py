"""`check --resume`: does a training that is killed and resumed equal an uninterrupted one?"""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from xorbench.commands import check as checks
from xorbench.commands.check import VALUES_BYTES, CheckOutcome, CheckRequest
from xorbench.commands.interrupt import terminable
from xorbench.commands.run_maker import Note
from xorbench.errors import BadOption
from xorbench.judge import resume as judge
from xorbench.judge.check import CheckRuns, Conclusion
from xorbench.judge.command_runs import (
    KEEP_RECORDS,
    LONGER,
    cut_short,
    ends,
    last_said,
    notes_of,
    step_count,
    told,
    trouble,
    written_outside,
)
from xorbench.judge.first_difference import compare
from xorbench.judge.half_precision import rounded
from xorbench.judge.limits import gap_of
from xorbench.judge.resume_answer import KillTrial, conclude, verdicts
from xorbench.judge.resume_record import read, without_end
from xorbench.judge.run_processes import (
    ON_THIS_MACHINE,
    keyed,
    missing_ranks,
    paired,
    unmet,
)
from xorbench.judge.verdicts import counted, some
from xorbench.measure.command_run import CommandRun, working_copy
from xorbench.observe import trace as traces
from xorbench.observe.ended import KILLED, Ended, read_ended
from xorbench.observe.sharing import shown_command, shown_words
from xorbench.observe.trace import TraceEnd, TraceFile
from xorbench.plan.option_text import option, option_text

# What a training writes besides checkpoints, by the ends and the beginnings of names.
NO_CHECKPOINTS: Final = (
    *(".log", ".txt", ".csv", ".tsv", ".out", ".err", ".pyc", ".lock", ".md", ".html", ".json"),
    *(".jsonl", ".yaml", ".yml", ".toml", ".png", ".jpg", ".svg", ".pdf"),
)
EVENTS: Final = "events.out.tfevents"  # of TensorBoard


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A check across kills: the command, how it is resumed, and when it is killed."""

    check: CheckRequest
    resume: tuple[str, ...]
    kill_after: tuple[int, ...]


def plan(request: ResumeRequest, run: CommandRun) -> list[str]:
    """What will happen, in lines."""
    kills = ", ".join(map(str, request.kill_after))
    return [
        f"runs once to the end: {request.check.command}",
        f"then, for each of {kills}: runs it again, kills it when that many steps are complete, and"
        f" resumes it: {shown_command(request.resume)}",
        *checks.place_lines(request.check, run),
        *filter(None, [unmet(run.words)]),
    ]


def check(request: ResumeRequest, note: Note) -> CheckOutcome:
    """Run, kill, resume and compare. Raises `BadOption`."""
    run = checks.prepared(request.check)
    checks.require_command(option("resume"), request.resume, None, run.folder)
    for line in plan(request, run):
        note(line)
    with checks.records_folder(request.check) as folder:
        ended, observed, trials = _run(request, run, folder, note)
    return _outcome(folder, _title(request.check.command, request.resume), ended, observed, trials)


def judged_again(folder: Path, saved: dict[str, Any]) -> CheckOutcome:
    """Judge the records of such a check again."""
    ended = [read_ended(folder / "run-1")]
    observed = _whole(tuple(saved["words"]), ended)
    trials = []
    for number in saved["kill_after"] if observed.trouble is None else ():
        pair = [folder / f"{what}-after-{number}" for what in ("killed", "resumed")]
        if all((path / "ended.json").exists() for path in pair):
            ended += map(read_ended, pair)
            trial = _trial(number, ended[0], ended[-2], ended[-1], saved["saved"].get(str(number)))
            values = folder / f"values-for-{number}"
            if (values / "ended.json").exists():
                trial = _looked_at_values(trial, read_ended(values), ended[-1])
        else:
            said = "it was not killed and resumed: the check was stopped before"
            trial = KillTrial(number, trouble=Conclusion("inconclusive", said))
        trials.append(trial)
    observed.notes = notes_of(ended)
    title = _title(saved["command"], saved["resume"])
    return _outcome(folder, title, ended, observed, trials)


def _title(command: str, resume: tuple[str, ...]) -> str:
    return f"{command}, resumed by {shown_command(resume)}"


def _outcome(
    folder: Path, title: str, ended: list[Ended], observed: CheckRuns, trials: list[KillTrial]
) -> CheckOutcome:
    outcome = checks.concluded(folder, title, ended, observed)
    if observed.trouble is not None:
        return outcome
    answer = replace(conclude(trials), notes=tuple(observed.notes))
    return replace(outcome, conclusion=answer, verdicts=verdicts(trials))


def _whole(words: tuple[str, ...], ended: list[Ended]) -> CheckRuns:
    """What the first run alone says."""
    observed = CheckRuns(runs=1)
    observed.trouble = trouble(words, ended)
    if observed.trouble is None and ended[0].how in KILLED:
        said = f"run 1 {cut_short(ended[0])}"
        observed.trouble = ("inconclusive", said, LONGER)
    if observed.trouble is None and (found := _lacking("run 1", ended[0])) is not None:
        observed.trouble = (found.outcome, found.sentence, found.hint)
    observed.notes = notes_of(ended)
    return observed


def _run(
    request: ResumeRequest, run: CommandRun, folder: Path, note: Note
) -> tuple[list[Ended], CheckRuns, list[KillTrial]]:
    with terminable(), working_copy(run) as fresh:
        saved: dict[str, list[str]] = {}

        def save() -> None:
            more = {"resume": shown_words(request.resume), "kill_after": list(request.kill_after)}
            checks.save_request(folder, request.check, {**more, "saved": saved})

        make = checks.maker("check", request.check, folder, fresh, note).run

        def done(number: int, name: str, of: CommandRun, place: Path, **options: Any) -> Ended:
            said = name.replace("-", " ")
            return make(of, number, name, said, place=place, state=True, **options)

        save()
        ended = [done(1, "run-1", run, fresh())]
        observed = _whole(request.check.words, ended)
        if observed.trouble is not None:
            return ended, observed, []
        _require_within(request, ended[0])
        trials = []
        for number in request.kill_after:
            place = fresh()
            killed = done(2, f"killed-after-{number}", run, place, stop_after=number)
            saved[str(number)] = [path for path in killed.saved if not _is_log(Path(path))]
            save()
            kept: dict[str, Any] = {"keep": (0,), "values_bytes": VALUES_BYTES}
            again = replace(run, words=request.resume)
            resumed = done(3, f"resumed-after-{number}", again, place, **kept)
            ended += [killed, resumed]
            trial = _trial(number, ended[0], killed, resumed, saved[str(number)])
            if trial.resumed and trial.resumed.by != "weights":
                kept["keep"] = _steps_to_keep(trial.resumed, number)
                name = f"values-for-{number}"
                whole = done(1, name, run, fresh(), stop_after=number + 1, **kept)
                trial = _looked_at_values(trial, whole, resumed)
            trials.append(trial)
        observed.notes = notes_of(ended)
    return ended, observed, trials


def _steps_to_keep(found: judge.Resumed, kill_after: int) -> tuple[int, ...]:
    """The step whose values are wanted, or each that may be the one where it goes on."""
    if found.step is not None and found.by in judge.SURE:
        return (found.step,)
    return tuple(range(kill_after + 1))


def _require_within(request: ResumeRequest, whole: Ended) -> None:
    steps = max(map(step_count, whole.traces))
    for number in request.kill_after:
        if number >= steps:
            raise BadOption(
                option_text(
                    "{kill_after}: {number}: the command makes {count} steps",
                    number=number,
                    count=steps,
                ),
                f"the last step that it can be killed before is {steps - 1}",
            )


def _is_log(path: Path) -> bool:
    return path.suffix in NO_CHECKPOINTS or path.name.startswith(EVENTS)


def _trial(
    number: int, whole: Ended, killed: Ended, resumed: Ended, saved: list[str] | None
) -> KillTrial:
    """What one kill came to: the first process whose resumed record is not as it must be."""
    outside = bool(written_outside([whole, killed, resumed]))
    trial = KillTrial(number, saved=tuple(saved or ()), outside=outside)
    if (why_not := _trouble(trial, whole, killed, resumed)) is not None:
        return replace(trial, trouble=why_not)
    ranks = list(zip(*(_by_rank(one) for one in (whole, killed, resumed)), strict=False))
    stopped = whole.how == "stopped"
    compared = [_compared(number, *three, stopped=stopped) for three in ranks]
    names = [f"{process}: " if len(ranks) > 1 else "" for process in keyed(_by_rank(whole))]
    results = []
    for name, found in zip(names, compared, strict=False):
        if isinstance(found, str):
            said = f"{name}{found}"
            open_ = Conclusion(
                "inconclusive", said, hint=option_text("run check without {resume} first")
            )
            return replace(trial, trouble=open_)
        results.append(replace(found, said=f"{name}{found.said}") if found.component else found)
    wrong = [one for one in results if one.component]
    return replace(trial, resumed=min(wrong, key=_cause, default=results[0]))


def _cause(found: judge.Resumed) -> tuple[int, bool]:
    """Which rank is the cause: the first that differs, before those that sum up its gradients."""
    return -1 if found.at is None else found.at, found.component == "gradients"


def _trouble(trial: KillTrial, whole: Ended, killed: Ended, resumed: Ended) -> Conclusion | None:
    """Why there is nothing to compare."""
    found = _how_it_ended(trial, killed, resumed)
    if found is not None:
        return found
    if not _by_rank(killed) or not _by_rank(resumed):
        return _no_step(trial, resumed)
    runs = {"run 1": whole, "run 2": killed, "the resumed run": resumed}
    for name, one in runs.items():
        if (found := _lacking(name, one)) is not None:
            return found
    trained, until = len(_by_rank(whole)), len(_by_rank(killed))
    if until < trained:
        said = f"when run 2 was killed it had trained in {counted(until, 'process')} of {trained}"
        return Conclusion("inconclusive", said, hint="kill it later, or check one process alone")
    counts = [len(_by_rank(one)) for one in (whole, resumed)]
    if counts[0] != counts[1]:
        said = f"the resumed run trains in {counted(counts[1], 'process')}, expected {counts[0]}"
        return Conclusion("inconclusive", said, hint="resume with as many processes")
    return None


def _lacking(name: str, one: Ended) -> Conclusion | None:
    """What is missing in the records of a run."""
    if missing := missing_ranks(_by_rank(one)):
        said = f"rank {some(missing)} left no record in {name}"
        return Conclusion("inconclusive", said, hint=ON_THIS_MACHINE)
    for end in _last_ends(one):
        if (gap := gap_of(end)) is not None:
            return Conclusion("inconclusive", f"{name}: {gap.text}", hint=gap.hint)
    return None


def _last_ends(one: Ended) -> list[TraceEnd | None]:
    """The last line of each record, without those of processes that were started again.

    A rank of a run that was stopped may not have written one.
    """
    run = _by_rank(one)
    ends_ = [p.a.end() for p in paired(run, run) if p.a is not None and not p.ended_by_parent]
    return [end for end in ends_ if end is not None] if one.how == "stopped" else ends_


def _how_it_ended(trial: KillTrial, killed: Ended, resumed: Ended) -> Conclusion | None:
    if killed.how != "stopped":
        how = f"it ended by itself before: {told(killed)}"
        return Conclusion("inconclusive", f"run 2 could not be killed: {how}")
    if resumed.how == "refused":
        return Conclusion("fail", f"the resume command cannot be run: {resumed.why}")
    if resumed.how == "ended" and resumed.code != 0:
        return _failed(trial, resumed)
    for one in (killed, resumed):
        if one.lost_records:
            return Conclusion("inconclusive", one.lost_records, hint=KEEP_RECORDS)
    if resumed.how in KILLED:
        said = f"the resumed run {cut_short(resumed)}"
        return Conclusion("inconclusive", said, hint=LONGER)
    return None


def _no_step(trial: KillTrial, resumed: Ended) -> Conclusion:
    events = {line.event for line in traces.presence(resumed.records)}
    said = "the resumed run made no step"
    if "torch" not in events:
        said = f"{said}: it did not import PyTorch"
        return Conclusion("inconclusive", said, hint="give the command that resumes the training")
    if any(end and not end.complete for end in ends(resumed)):
        said = f"{said}: there were backward passes, but no optimizer has stepped"
        hint = "a GradScaler leaves out steps whose gradients overflow: was its state restored?"
        return Conclusion("inconclusive", said, hint=hint)
    if trial.outside:
        said = f"{said}: it may have found what the uninterrupted run has left outside its folder"
        return Conclusion("inconclusive", said, hint="save within the working folder")
    said = f"{said}: it may have nothing left to do"
    return Conclusion("inconclusive", said, hint="kill it earlier")


def _failed(trial: KillTrial, resumed: Ended) -> Conclusion:
    """Why the resume command failed, as far as what it wrote tells."""
    last = last_said(resumed)
    if trial.saved and any(judge.CUT_SHORT.search(line) for line in resumed.last_lines()):
        said = f"the checkpoint cannot be read: the kill may have cut it short: {last}"
        hint = "write it to another file, and rename that when it is whole"
        return Conclusion("fail", said, "checkpoint", "Not restored: anything.", hint)
    said = f"the resume command failed: {resumed.exit_said}: {last}"
    hint = f"what it wrote is in {resumed.folder}"
    if not trial.saved and not trial.outside:
        hint = f"nothing had been saved by then: kill it after its first checkpoint; {hint}"
    return Conclusion("fail", said, hint=hint)


def _by_rank(one: Ended) -> list[TraceFile]:
    """The processes that made steps, by rank, then by their start."""
    found = [trace for trace in one.traces if any(trace.steps())]
    return sorted(found, key=traces.rank_of)


def _compared(
    number: int, whole: TraceFile, killed: TraceFile, resumed: TraceFile, *, stopped: bool
) -> judge.Resumed | str:
    """Compare one process; a text says that the training itself is not reproducible.

    A run that was `stopped` by --steps does not tell where the training ends.
    """
    first = compare(islice(whole.steps(), number), killed.steps()).first
    if first is not None:
        return (
            "not reproducible: the run that was killed differs from the uninterrupted one before"
            f" the kill, first in step {first.step}"
        )
    records = [read(trace.lines()) for trace in (whole, killed, resumed)]
    if stopped:
        records = [without_end(record) for record in records]
    return judge.compare(records[0], records[1], records[2], number)


def _looked_at_values(trial: KillTrial, whole: Ended, resumed: Ended) -> KillTrial:
    """Whether the weights that it starts with are those of a step in half precision."""
    a, b = _by_rank(whole)[:1], _by_rank(resumed)[:1]
    if not a or not b:
        return trial
    found = _kept(b[0]).get(0, {})
    for step, weights in sorted(_kept(a[0]).items(), reverse=True):
        half = rounded(weights, found)
        if half:
            return replace(trial, rounded=(step, half))
    return trial


def _kept(trace: TraceFile) -> dict[int, dict[str, tuple[str, bytes]]]:
    """Type and bytes of the parameters, by the step at whose start they were kept and identity."""
    found: dict[int, dict[str, tuple[str, bytes]]] = {}
    for line in trace.steps():
        for event in line.events:
            data = trace.values(event) if event.kind == "parameter" else None
            if data is not None:
                found.setdefault(line.step, {})[event.identity] = (event.more.dtype, data)
    return found
