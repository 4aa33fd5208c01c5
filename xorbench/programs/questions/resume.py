"""`check --resume`: is a killed and resumed training identical to an uninterrupted one?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

from xorbench.errors import BadOption
from xorbench.options.option_text import option, option_text
from xorbench.programs import lost_state
from xorbench.programs.command_run import CommandRun
from xorbench.programs.command_runs import (
    KEEP_RECORDS,
    LONGER,
    began_a_step,
    cut_short,
    describe_end,
    last_output,
    notes_of,
    sources_of,
    why_not_comparable,
    written_outside,
)
from xorbench.programs.conclusion import CheckRuns, Conclusion, different_files
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing, run_rows
from xorbench.programs.first_difference import compare
from xorbench.programs.half_precision import rounded
from xorbench.programs.kills import (
    ATOMIC,
    CHECKPOINT,
    MIXED,
    NEEDED_PLACES,
    SAVE_KILLS,
    Kill,
    absence,
    death_of,
    mixed,
    mixed_text,
    not_applicable,
    refused,
)
from xorbench.programs.limits import gap_of
from xorbench.programs.lost_state import Resumed
from xorbench.programs.questions.rerun import VALUES_BYTES, CheckRequest
from xorbench.programs.questions.rerun import judgement as command_judgement
from xorbench.programs.request import require_command
from xorbench.programs.resume_hints import resume_hint
from xorbench.programs.resumed_run import CERTAIN, read
from xorbench.programs.run_processes import (
    ON_THIS_MACHINE,
    keyed,
    missing_ranks,
    paired,
    port_warning,
)
from xorbench.programs.saved_files import FileComparison, compared_after_resume
from xorbench.records.ended import KILLED, Ended
from xorbench.records.redaction import shown_command, shown_words
from xorbench.records.trace import PresenceLine, TracedSource, TraceEnd, TraceFile
from xorbench.verdicts import Verdict, counted, some

CHECK: Final = "exact resume"
RESUMED_AT: Final = "resumed at step"
# Suffixes and prefixes of files that are not checkpoints.
NO_CHECKPOINTS: Final = (
    *(".log", ".txt", ".csv", ".tsv", ".out", ".err", ".pyc", ".lock", ".md", ".html", ".json"),
    *(".jsonl", ".yaml", ".yml", ".toml", ".png", ".jpg", ".svg", ".pdf"),
)
EVENTS: Final = "events.out.tfevents"  # of TensorBoard
CUT_SHORT: Final = re.compile(
    r"PytorchStreamReader failed|unexpected EOF|UnpicklingError|EOFError|Ran out of input|"
    r"not a (valid )?zip|SafetensorError|incomplete|truncated"
)
FROM_SCRATCH: Final = "from scratch"
HINTS: Final = {
    "weights": "save and load the whole state_dict, in the precision of the training",
    "buffers": "save and load the whole state_dict of the model, with strict=True",
    "optimizer state": "save and load optimizer.state_dict(), after the model is on its device",
    "another model": "save and load its state_dict too",
    "hyperparameters": "save and load scheduler.state_dict(), and call scheduler.step() where the"
    " uninterrupted run does",
    "accumulation": "save after an optimizer step, not between its backward passes",
    "data order": "skip the batches already consumed, call set_epoch() on the sampler, or use a"
    " DataLoader with a state_dict (torchdata StatefulDataLoader)",
    "generators": "save and load random.getstate(), numpy.random.get_state(), torch.get_rng_state()"
    " and torch.cuda.get_rng_state_all(); restore them last, before the first batch is drawn",
    "loss scale": "save and load GradScaler.state_dict()",
    "forward": "restore all other state of the forward pass: attributes that are not buffers,"
    " coefficients that change with the step, its own generators",
    "gradients": "save after an optimizer step and zero_grad(); restore everything that changes"
    " gradients, such as clipping, hooks and requires_grad",
    "training mode": "call train() after loading the checkpoint, and after each evaluation",
    "number of steps": "restore the step counter from the checkpoint",
    FROM_SCRATCH: "look for a swallowed exception while loading, and check the checkpoint path",
}


@dataclass(frozen=True, slots=True)
class KillTrial:
    """One kill and the run that resumed after it.

    Attributes:
        kill: the kill.
        steps: the number of complete steps at the kill.
        death: the event of a kill within a save.
        absent: why the training has no such place in a save; empty if it was killed.
        saved: new or changed files in the folder at the kill.
        outside: whether the training writes outside its folder.
        trouble: the conclusion if the runs are not comparable.
        resumed: the comparison with the uninterrupted training, if possible.
        rounded: the step and the half precision to which its weights were rounded, if any.
        sources: the notes on the state that the program keeps in plain variables.
        files: the comparison of the files at the end.
        files_decide: whether different files are a difference.
    """

    kill: Kill
    steps: int = 0
    death: PresenceLine | None = None
    absent: str = ""
    saved: tuple[str, ...] = ()
    outside: bool = False
    trouble: Conclusion | None = None
    resumed: Resumed | None = None
    rounded: tuple[int, str] | None = None
    sources: tuple[TracedSource, ...] = ()
    files: FileComparison = field(default_factory=FileComparison)
    files_decide: bool = False


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A check across kills: the command, the resume command, and the kills.

    Attributes:
        kill_after: the numbers of steps to kill after.
        kill_in_save: whether to kill it within a save, at each place.
    """

    check: CheckRequest
    resume: tuple[str, ...]
    kill_after: tuple[int, ...] | None
    kill_in_save: bool
    asker: ClassVar[str] = "check"

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "ResumeRequest":
        """The question of an earlier check."""
        resume, steps = tuple(saved["resume"]), tuple(saved["kill_after"])
        return cls(check, resume, steps, saved.get("kill_in_save", False))

    @property
    def kills(self) -> list[Kill]:
        """The kills, one trial each."""
        places = SAVE_KILLS if self.kill_in_save else ()
        return [
            *(Kill(number) for number in self.kill_after or ()),
            *(Kill(None, p) for p in places),
        ]

    @property
    def title(self) -> str:
        """Both commands, as typed in a shell."""
        return f"{self.check.command}, resumed by {shown_command(self.resume)}"

    def commands(self) -> dict[str, CommandRun]:
        """The command and the resume command; raises `BadOption`."""
        run = self.check.command_run()
        require_command(option("resume"), self.resume, None, run.folder)
        return {MAIN: run, "resume": replace(run, words=self.resume)}

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """One uninterrupted run, and two runs per kill."""
        run, steps = commands[MAIN], self.kill_after or ()
        kills = [f"after {', '.join(map(str, steps))} steps"] if steps else []
        kills += ["within a save, at each place"] if self.kill_in_save else []
        trials = ", one trial each" if len(self.kills) > 1 else ""
        return [
            f"runs once to the end: {self.check.command}",
            f"then reruns it, kills it {' and '.join(kills)}{trials}, and resumes it:"
            f" {shown_command(self.resume)}",
            *self.check.place_lines(run),
            *filter(None, [port_warning(run.words)]),
        ]

    def saved(self, checkpoints: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """The resume command, the kills, and the files that each kill left."""
        return {
            "resume": shown_words(self.resume),
            "kill_after": list(self.kill_after or ()),
            "kill_in_save": self.kill_in_save,
            "saved": checkpoints or {},
        }

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare each resumed run with the uninterrupted run."""
        whole = experiment.run("run-1", 1, "run 1", state=True)
        trouble = self._not_comparable(whole)
        if trouble is not None:
            observed = CheckRuns(runs=1, trouble=trouble, notes=notes_of([whole]))
            return command_judgement(observed, [whole])
        self._require_within(whole)
        made, trials = KilledRuns(experiment, whole), list[KillTrial]()
        for kill in self.kills:
            needed = [t.absent for t in trials if t.kill.place == NEEDED_PLACES.get(kill.place)]
            if absent := next(filter(None, needed), ""):
                trials.append(_absent(kill, absent))
                continue
            try:
                trials.append(self._tried(made, kill))
            except RunMissing:
                finding = "not killed and resumed: the check was stopped first"
                trials.append(KillTrial(kill, trouble=Conclusion("inconclusive", finding)))
        conclusion = replace(conclude(trials), notes=tuple(notes_of(made.runs)))
        rows = run_rows(made.runs)
        return Judgement(conclusion, verdicts(trials), rows, {"runs": rows})

    def _tried(self, made: "KilledRuns", kill: Kill) -> KillTrial:
        """Kill the training, and resume it if it was killed."""
        killed = made.killed(kill)
        made.experiment.save(self.saved(made.checkpoints))
        if absent := absence(kill, killed):
            return _absent(kill, absent)
        resumed = made.resumed(kill)
        trial = _trial(kill, made.whole, killed, resumed, made.checkpoints[kill.key])
        if trial.resumed and trial.resumed.by != "weights":
            trial = self._with_values(made.experiment, trial, trial.resumed, resumed)
        if {made.whole.how, resumed.how} != {"ended"}:  # stopped by --steps before the end
            return trial
        files = compared_after_resume(made.whole.folder, killed.folder, resumed.folder)
        return replace(trial, files=files, files_decide=self.check.files)

    def _not_comparable(self, whole: Ended) -> Conclusion | None:
        trouble = why_not_comparable(self.check.words, [whole])
        if trouble is None and whole.how in KILLED:
            return Conclusion("inconclusive", f"run 1 {cut_short(whole)}", hint=LONGER)
        return trouble or _lacking("run 1", whole)

    def _require_within(self, whole: Ended) -> None:
        steps = max(trace.step_count for trace in whole.traces)
        for number in self.kill_after or ():
            if number >= steps:
                raise BadOption(
                    option_text(
                        "{kill_after}: {number}: the command makes {count} steps",
                        number=number,
                        count=steps,
                    ),
                    f"the largest possible value is {steps - 1}",
                )

    def _with_values(
        self, experiment: Experiment, trial: KillTrial, compared: Resumed, resumed: Ended
    ) -> KillTrial:
        """Extend the trial: were its weights saved in half precision?"""
        number = trial.steps
        keep: tuple[int, ...] = tuple(range(number + 1))
        if compared.step is not None and compared.by in CERTAIN:
            keep = (compared.step,)
        options: dict[str, Any] = {"keep": keep, "values_bytes": VALUES_BYTES, "state": True}
        name, label = f"values-for-{trial.kill.key}", f"values for {trial.kill.key}"
        try:
            whole = experiment.run(name, 1, label, stop_after=number + 1, kill=True, **options)
        except RunMissing:
            return trial
        return replace(trial, rounded=_rounded_step(whole, resumed))


@dataclass(slots=True)
class KilledRuns:
    """The uninterrupted run, and the pairs of a killed and a resumed run that are made so far.

    Attributes:
        checkpoints: the files that each kill left.
        runs: all runs.
    """

    experiment: Experiment
    whole: Ended
    checkpoints: dict[str, list[str]] = field(default_factory=dict)
    runs: list[Ended] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = [self.whole]

    def killed(self, kill: Kill) -> Ended:
        """A run that is killed."""
        run = self.experiment.run(f"killed-{kill.name}", 2, kill.label, state=True, **kill.options)
        self.checkpoints[kill.key] = [path for path in run.saved if not _is_log(Path(path))]
        self.runs.append(run)
        return run

    def resumed(self, kill: Kill) -> Ended:
        """The run that resumes in the folder of the killed run."""
        options: dict[str, Any] = {"keep": (0,), "values_bytes": VALUES_BYTES, "state": True}
        name, label = f"resumed-{kill.name}", kill.label.replace("killed", "resumed after", 1)
        label = f"resumed after {kill.steps}" if kill.steps else label
        run = self.experiment.run(name, 3, label, command="resume", same_place=True, **options)
        self.runs.append(run)
        return run


def _is_log(path: Path) -> bool:
    return path.suffix in NO_CHECKPOINTS or path.name.startswith(EVENTS)


# One trial


def _absent(kill: Kill, reason: str) -> KillTrial:
    """The trial of a kill at a place that the saves of the training do not have."""
    return KillTrial(kill, absent=reason, trouble=not_applicable(kill, reason))


def _trial(
    kill: Kill, whole: Ended, killed: Ended, resumed: Ended, saved: Sequence[str]
) -> KillTrial:
    """The result of one kill: the first process whose resumed record differs."""
    outside = bool(written_outside([whole, killed, resumed]))
    death = death_of(killed) if kill.place else None
    number = max((trace.step_count for trace in killed.traces), default=0)
    number = kill.steps or number
    trial = KillTrial(kill, number, death, saved=tuple(saved), outside=outside)
    if (trouble := _not_resumed(trial, whole, killed, resumed)) is not None:
        return replace(trial, trouble=trouble)
    ranks = list(zip(*(run.trained for run in (whole, killed, resumed)), strict=False))
    names = [f"{process}: " if len(ranks) > 1 else "" for process in keyed(whole.trained)]
    results = []
    for name, traces in zip(names, ranks, strict=False):
        result = _compared(trial, *traces, stopped=whole.how == "stopped")
        if isinstance(result, str):
            hint = option_text("run check without {resume} first")
            trouble = Conclusion("inconclusive", f"{name}{result}", hint=hint)
            return replace(trial, trouble=trouble)
        results.append(replace(result, text=f"{name}{result.text}") if result.component else result)
    wrong = [result for result in results if result.component]
    first = min(wrong, key=_cause, default=results[0])
    if first.component == MIXED:
        return replace(trial, trouble=mixed(first.text))
    sources = tuple(sources_of(ranks[0][0]))
    return replace(trial, resumed=first, sources=sources)


def _cause(result: Resumed) -> tuple[int, bool]:
    """Which rank is the cause: the first that differs, before those that sum up its gradients."""
    step = -1 if result.differs_at is None else result.differs_at
    return step, result.component == "gradients"


def _not_resumed(
    trial: KillTrial, whole: Ended, killed: Ended, resumed: Ended
) -> Conclusion | None:
    """The conclusion if the runs are not comparable; None if they are."""
    if (trouble := _how_it_ended(trial, killed, resumed)) is not None:
        return trouble
    if not killed.trained or not resumed.trained:
        return _no_step(trial, resumed)
    for name, run in {"run 1": whole, "run 2": killed, "the resumed run": resumed}.items():
        if (trouble := _lacking(name, run)) is not None:
            return trouble
    trained, until, after = (len(run.trained) for run in (whole, killed, resumed))
    if until < trained:
        processes = f"{counted(until, 'process')} of {trained}"
        finding = f"run 2 was killed when it had trained in {processes}"
        hint = "kill it later, or check a single process"
        return Conclusion("inconclusive", finding, hint=hint)
    if after != trained:
        finding = f"the resumed run trains in {counted(after, 'process')}, expected {trained}"
        hint = "resume with as many processes, or use torchrun in both commands"
        return Conclusion("inconclusive", finding, hint=hint)
    return None


def _lacking(name: str, run: Ended) -> Conclusion | None:
    """Inconclusive if a record is missing or does not cover its training."""
    if missing := missing_ranks(run.trained):
        finding = f"rank {some(missing)} left no record in {name}"
        return Conclusion("inconclusive", finding, hint=ON_THIS_MACHINE)
    for end in _last_ends(run):
        if (gap := gap_of(end)) is not None:
            return Conclusion("inconclusive", f"{name}: {gap.text}", hint=gap.hint)
    return None


def _last_ends(run: Ended) -> list[TraceEnd | None]:
    """The last line of each record, except for processes that were restarted.

    A rank of a stopped run may have no last line.
    """
    traces = run.trained
    pairs = paired(traces, traces)
    ends = [pair.a.end() for pair in pairs if pair.a is not None and not pair.ended_by_parent]
    return [end for end in ends if end is not None] if run.how == "stopped" else ends


def _how_it_ended(trial: KillTrial, killed: Ended, resumed: Ended) -> Conclusion | None:
    if killed.how != "stopped":
        reason = f"it ended on its own: {describe_end(killed)}"
        return Conclusion("inconclusive", f"run 2 could not be killed: {reason}")
    if resumed.how == "refused":
        return Conclusion("fail", f"the resume command cannot be run: {resumed.why}")
    if resumed.how == "ended" and resumed.code != 0:
        return _resume_failed(trial, resumed)
    for run in (killed, resumed):
        if run.lost_records:
            return Conclusion("inconclusive", run.lost_records, hint=KEEP_RECORDS)
    if resumed.how in KILLED:
        finding = f"the resumed run {cut_short(resumed)}"
        return Conclusion("inconclusive", finding, hint=LONGER)
    return None


def _no_step(trial: KillTrial, resumed: Ended) -> Conclusion:
    if not resumed.events("torch"):
        reason, hint = "it did not import PyTorch", "give the command that resumes the training"
    elif began_a_step(resumed):
        reason = "backward passes were recorded, but no optimizer step"
        hint = "a GradScaler skips steps whose gradients overflow: check that its state is restored"
    elif trial.outside:
        reason = "it may have loaded a file that the uninterrupted run saved outside its folder"
        hint = "save within the working folder"
    else:
        reason, hint = "it may have no steps left", "kill it earlier"
    return Conclusion("inconclusive", f"the resumed run made no step: {reason}", hint=hint)


def _resume_failed(trial: KillTrial, resumed: Ended) -> Conclusion:
    """The conclusion for a failed resume command, from its output."""
    last = last_output(resumed)
    if trial.death is not None:
        return refused(trial.kill, trial.death, last)
    if trial.saved and any(CUT_SHORT.search(line) for line in resumed.last_lines()):
        finding = f"the checkpoint cannot be read; the kill may have truncated it: {last}"
        hint = "write to a temporary file, and rename it when it is complete"
        return Conclusion("fail", finding, CHECKPOINT, "Nothing was restored.", hint)
    hint = f"its output is in {resumed.folder}"
    if not trial.saved and not trial.outside:
        hint = f"nothing had been saved at the kill: kill it after its first checkpoint; {hint}"
    finding = f"the resume command failed: {resumed.exit_text}: {last}"
    return Conclusion("fail", finding, hint=hint)


def _compared(
    trial: KillTrial, whole: TraceFile, killed: TraceFile, resumed: TraceFile, *, stopped: bool
) -> Resumed | str:
    """Compare one process; a text is returned if the training itself is not reproducible.

    If the runs are `stopped` by --steps, the end of the training is unknown.
    """
    number = killed.step_count if trial.death else trial.steps  # ranks are killed at any step
    first = compare(islice(whole.steps(), number), killed.steps()).first
    if first is not None:
        return (
            "not reproducible: the killed run differs from the uninterrupted run before the kill,"
            f" first in step {first.step}"
        )
    records = [
        read(trace.steps() if stopped else trace.lines()) for trace in (whole, killed, resumed)
    ]
    last = min(trial.steps, len(records[0].steps) - 1)  # a save may follow the last step
    result = lost_state.compare(records[0], records[1], records[2], last)
    if trial.death and (result.component or result.after_kill):
        older = trial.death.older_step + trial.steps - trial.death.step
        text = mixed_text(
            records[0], records[2], trial.steps, older, later_weights=result.after_kill
        )
        if text:
            return replace(result, component=MIXED, text=text)
    return result


def _rounded_step(whole: Ended, resumed: Ended) -> tuple[int, str] | None:
    """The last step whose weights, rounded to half precision, are those of the resumed run."""
    expected, actual = whole.trained[:1], resumed.trained[:1]
    if not expected or not actual:
        return None
    start = _kept_weights(actual[0]).get(0, {})
    for step, weights in sorted(_kept_weights(expected[0]).items(), reverse=True):
        if half := rounded(weights, start):
            return step, half
    return None


def _kept_weights(trace: TraceFile) -> dict[int, dict[str, tuple[str, bytes]]]:
    """Type and bytes of the stored parameters, by step and identity."""
    weights: dict[int, dict[str, tuple[str, bytes]]] = {}
    for step in trace.steps():
        for event in step.events:
            data = trace.values(event) if event.kind == "parameter" else None
            if data is not None:
                weights.setdefault(step.step, {})[event.identity] = (event.more.dtype, data)
    return weights


# The answer


def conclude(trials: Sequence[KillTrial]) -> Conclusion:
    """The answer over all kills: the first failure, else the first inconclusive one."""
    answers = [(trial.kill, _answer(trial)) for trial in trials]
    kills = tuple((kill.label, answer.sentence) for kill, answer in answers)
    details = kills if len(trials) > 1 else ()  # with one kill the sentence has all
    for outcome in ("fail", "inconclusive"):
        for kill, answer in answers:
            if answer.outcome == outcome:
                separator = "," if answer.finding.startswith(RESUMED_AT) else ":"
                finding = f"{kill.text}{separator} {answer.finding}"
                if outcome == "fail":
                    finding = f"resume is not exact: {finding}"
                return replace(answer, finding=finding, details=(*details, *answer.details))
    passed = [answer for _, answer in answers if answer.outcome == "pass"]
    finding = f"resume is exact after 1 kill: {passed[0].finding}"
    if len(passed) > 1:
        finding = f"resume is exact after each of {len(passed)} kills"
    files = dict.fromkeys(detail for answer in passed for detail in answer.details)
    return Conclusion("pass", finding, details=(*details, *files))


def verdicts(trials: Sequence[KillTrial]) -> list[Verdict]:
    """The answer to each kill as a verdict."""
    return [
        Verdict(
            check=CHECK,
            subject=trial.kill.text,
            outcome=answer.outcome,
            expected="bitwise identical to the uninterrupted run",
            actual=answer.sentence,
            hint=answer.hint,
        )
        for trial, answer in ((trial, _answer(trial)) for trial in trials)
    ]


def _answer(trial: KillTrial) -> Conclusion:
    """The answer of a trial, with all that was not restored."""
    answer = _first_answer(trial)
    result = trial.resumed
    if result is None or answer.outcome != "fail":
        return answer
    hint = resume_hint(answer.hint, answer.component, result.compared, trial.sources)
    if not result.further:
        return replace(answer, hint=hint)
    further = "; ".join(text for _, text in result.further)
    hints = dict.fromkeys(HINTS[component] for component, _ in result.further)
    hint = "; ".join([hint, *(text for text in hints if text not in hint)])
    details = (*answer.details, ("also not restored", further))
    return replace(answer, hint=hint, details=details)


def _first_answer(trial: KillTrial) -> Conclusion:
    if trial.trouble is not None:
        return trial.trouble
    result = trial.resumed
    assert result is not None
    if result.after_kill or result.from_scratch:
        return _after_kill(result) if result.after_kill else _from_scratch(trial, result)
    if trial.rounded is not None:
        step, half = trial.rounded
        weights = f"all weights are those of the uninterrupted run, rounded to {half}"
        return _failed("weights", f"{RESUMED_AT} {step}: {weights}")
    if result.step is None:
        return _failed(result.component, result.text)
    by = f" (identified by {result.by})" if result.by != "weights" else ""
    place = f"{RESUMED_AT} {result.step}{by}"
    if not result.component:
        return _exact(trial, f"{place}, {_identical_text(result)}")
    later = ""
    if result.compared:
        identical = counted(result.compared, "identical step")
        later = f", {identical}, then in step {result.differs_at}"
    failed = _failed(result.component, f"{place}{later}: {result.text}")
    return replace(failed, step=result.step if result.differs_at is None else result.differs_at)


def _exact(trial: KillTrial, finding: str) -> Conclusion:
    """The answer to identical steps, with the files at the end."""
    text = trial.files.text
    details = (("saved files", text),) if text else ()
    if trial.files_decide and trial.files.different:
        return replace(different_files(finding, trial.files, details), lead="")
    return Conclusion("pass", finding, details=details)


def _identical_text(result: Resumed) -> str:
    """The steps that are identical, and the state that differed without effect."""
    parts = [_identical_steps_text(result.compared, is_complete=result.ended)]
    if result.generators:
        plural = "" if len(result.generators) == 1 else "s"
        names = f"generator{plural} {some(list(result.generators))}"
        parts.append(f"not restored, and used later without effect: {names}")
    if result.unneeded:
        plural = "" if len(result.unneeded) == 1 else "s"
        names = f"buffer{plural} {some(list(result.unneeded))}"
        parts.append(f"not restored, without effect: {names}")
    return "; ".join(parts)


def _identical_steps_text(steps: int, *, is_complete: bool) -> str:
    if not is_complete:
        return counted(steps, "identical step")
    if steps == 1:
        return "the remaining step is identical"
    return f"all {counted(steps, 'remaining step')} are identical"


def _failed(component: str, finding: str) -> Conclusion:
    meaning = f"Not restored: {component}."
    if component == "number of steps":
        meaning = "The resumed training has a different number of steps."
    return Conclusion("fail", finding, component, meaning, HINTS[component])


def _after_kill(result: Resumed) -> Conclusion:
    return Conclusion(
        "inconclusive",
        f"{result.text}: it loaded a file that the uninterrupted run saved",
        hint="save to a relative path in the working folder: each run has its own copy of it",
    )


def _from_scratch(trial: KillTrial, result: Resumed) -> Conclusion:
    begins = "the weights" if result.by == "weights" else "the batch"
    new = "" if result.by == "weights" else ", new weights and an empty optimizer state"
    finding = f"the resume command started from scratch: it begins with {begins} of step 0{new}"
    saved, hint = list(trial.saved), HINTS[FROM_SCRATCH]
    if trial.death:
        saved = saved or [trial.death.file.name]
        hint = hint if trial.death.older_is_complete else f"{ATOMIC}; {hint}"
    if saved:
        verb = "was" if len(saved) == 1 else "were"
        finding = f"{finding}, although {some(saved, 3)} {verb} saved"
        return Conclusion("fail", finding, FROM_SCRATCH, "Nothing was restored.", hint)
    if trial.outside:
        finding = f"{finding}; the training writes outside its working folder"
        return Conclusion("inconclusive", finding, hint="save within the working folder")
    finding = f"{finding}, because nothing had been saved at the kill"
    return Conclusion("inconclusive", finding, hint="kill it after its first checkpoint")
