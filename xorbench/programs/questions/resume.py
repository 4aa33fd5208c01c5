"""`check --resume`: does a training that is killed and resumed equal an uninterrupted one?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    why_not_comparable,
    written_outside,
)
from xorbench.programs.conclusion import CheckRuns, Conclusion
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing, run_rows
from xorbench.programs.first_difference import compare
from xorbench.programs.half_precision import rounded
from xorbench.programs.limits import gap_of
from xorbench.programs.lost_state import Resumed
from xorbench.programs.questions.rerun import VALUES_BYTES, CheckRequest
from xorbench.programs.questions.rerun import judgement as command_judgement
from xorbench.programs.request import require_command
from xorbench.programs.resumed_run import SURE, read
from xorbench.programs.run_processes import ON_THIS_MACHINE, keyed, missing_ranks, paired, unmet
from xorbench.records.ended import KILLED, Ended
from xorbench.records.redaction import shown_command, shown_words
from xorbench.records.trace import TraceEnd, TraceFile, rank_of
from xorbench.verdicts import Verdict, counted, some

CHECK: Final = "exact resume"
# Files that are no checkpoints, by the ends and the beginnings of their names.
NO_CHECKPOINTS: Final = (
    *(".log", ".txt", ".csv", ".tsv", ".out", ".err", ".pyc", ".lock", ".md", ".html", ".json"),
    *(".jsonl", ".yaml", ".yml", ".toml", ".png", ".jpg", ".svg", ".pdf"),
)
EVENTS: Final = "events.out.tfevents"  # of TensorBoard
CUT_SHORT: Final = re.compile(
    r"PytorchStreamReader failed|unexpected EOF|UnpicklingError|EOFError|Ran out of input|"
    r"not a (valid )?zip|SafetensorError|incomplete|truncated"
)
HINTS: Final = {
    "weights": "save and load the whole state_dict, in the precision in which it is trained",
    "buffers": "save and load the whole state_dict of the model, with strict=True",
    "optimizer state": "save and load optimizer.state_dict(), after the model is on its device",
    "another model": "save and load its state_dict too",
    "hyperparameters": "save and load scheduler.state_dict(), and call scheduler.step() where the"
    " uninterrupted run does",
    "accumulation": "save after an optimizer's step, not between the backward passes of one",
    "data order": "skip the batches of the epoch that are done, seed the sampler by the epoch"
    " (set_epoch), or use a loader that has a state_dict",
    "generators": "save and load random.getstate(), numpy.random.get_state(), torch.get_rng_state()"
    " and torch.cuda.get_rng_state_all(); restore them last, before the first batch is drawn",
    "loss scale": "save and load GradScaler.state_dict()",
    "forward": "restore what else the forward pass depends on: an attribute that is no buffer, a"
    " coefficient that moves with the steps, a generator of its own",
    "gradients": "save after an optimizer's step and zero_grad(); restore what changes gradients"
    " after backward, such as clipping, hooks and requires_grad",
    "training mode": "call train() after the checkpoint is loaded, and after each evaluation",
    "number of steps": "count the steps from the checkpoint on, not anew",
    "anew": "look for an exception of the loading that is caught, and for the path that it tries",
}


@dataclass(frozen=True, slots=True)
class KillTrial:
    """One kill and the run that resumed after it.

    Attributes:
        kill_after: how many steps were complete.
        saved: files that were new or changed in the folder when it was killed.
        outside: whether the training writes outside its folder.
        trouble: why there is nothing to compare.
        resumed: the comparison with the uninterrupted training, if one was possible.
        rounded: the step and the half precision that the weights were rounded to, if they were.
    """

    kill_after: int
    saved: tuple[str, ...] = ()
    outside: bool = False
    trouble: Conclusion | None = None
    resumed: Resumed | None = None
    rounded: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A check across kills: the command, how it is resumed, and when it is killed."""

    check: CheckRequest
    resume: tuple[str, ...]
    kill_after: tuple[int, ...]
    asker: ClassVar[str] = "check"

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "ResumeRequest":
        """The question of an earlier check."""
        return cls(check, tuple(saved["resume"]), tuple(saved["kill_after"]))

    @property
    def title(self) -> str:
        """Both commands."""
        return f"{self.check.command}, resumed by {shown_command(self.resume)}"

    def commands(self) -> dict[str, CommandRun]:
        """The command, and the one that resumes it; raises `BadOption`."""
        run = self.check.command_run()
        require_command(option("resume"), self.resume, None, run.folder)
        return {MAIN: run, "resume": replace(run, words=self.resume)}

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """An uninterrupted run, and two for each kill."""
        kills, run = ", ".join(map(str, self.kill_after)), commands[MAIN]
        return [
            f"runs once to the end: {self.check.command}",
            f"then, for each of {kills}: runs it again, kills it when that many steps are complete,"
            f" and resumes it: {shown_command(self.resume)}",
            *self.check.place_lines(run),
            *filter(None, [unmet(run.words)]),
        ]

    def saved(self, checkpoints: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """How it is resumed, when it is killed, and the files that each kill left."""
        kills = {"resume": shown_words(self.resume), "kill_after": list(self.kill_after)}
        return {**kills, "saved": checkpoints or {}}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare the run that resumes after each kill with an uninterrupted one."""
        whole = experiment.run("run-1", 1, "run 1", state=True)
        trouble = self._not_comparable(whole)
        if trouble is not None:
            observed = CheckRuns(runs=1, trouble=trouble, notes=notes_of([whole]))
            return command_judgement(observed, [whole])
        self._require_within(whole)
        runs, trials = [whole], []
        checkpoints: dict[str, list[str]] = {}  # by the number of steps
        for number in self.kill_after:
            try:
                killed, resumed = self._kill_and_resume(experiment, number, checkpoints)
            except RunMissing:
                finding = "it was not killed and resumed: the check was stopped before"
                trouble = Conclusion("inconclusive", finding)
                trials.append(KillTrial(number, trouble=trouble))
                continue
            runs += [killed, resumed]
            trial = _trial(number, whole, killed, resumed, checkpoints[str(number)])
            if trial.resumed and trial.resumed.by != "weights":
                trial = self._with_values(experiment, trial, trial.resumed, resumed)
            trials.append(trial)
        conclusion = replace(conclude(trials), notes=tuple(notes_of(runs)))
        rows = run_rows(runs)
        return Judgement(conclusion, verdicts(trials), rows, {"runs": rows})

    def _not_comparable(self, whole: Ended) -> Conclusion | None:
        trouble = why_not_comparable(self.check.words, [whole])
        if trouble is None and whole.how in KILLED:
            return Conclusion("inconclusive", f"run 1 {cut_short(whole)}", hint=LONGER)
        return trouble or _lacking("run 1", whole)

    def _require_within(self, whole: Ended) -> None:
        steps = max(trace.step_count for trace in whole.traces)
        for number in self.kill_after:
            if number >= steps:
                raise BadOption(
                    option_text(
                        "{kill_after}: {number}: the command makes {count} steps",
                        number=number,
                        count=steps,
                    ),
                    f"the last step that it can be killed before is {steps - 1}",
                )

    def _kill_and_resume(
        self, experiment: Experiment, number: int, checkpoints: dict[str, list[str]]
    ) -> tuple[Ended, Ended]:
        name, label = f"killed-after-{number}", f"killed after {number}"
        killed = experiment.run(name, 2, label, stop_after=number, state=True)
        checkpoints[str(number)] = [path for path in killed.saved if not _is_log(Path(path))]
        experiment.save(self.saved(checkpoints))
        name, label = f"resumed-after-{number}", f"resumed after {number}"
        options: dict[str, Any] = {"keep": (0,), "values_bytes": VALUES_BYTES, "state": True}
        return killed, experiment.run(name, 3, label, command="resume", same_place=True, **options)

    def _with_values(
        self, experiment: Experiment, trial: KillTrial, compared: Resumed, resumed: Ended
    ) -> KillTrial:
        """The trial with a look at values: whether its weights were saved in half precision."""
        number = trial.kill_after
        keep: tuple[int, ...] = tuple(range(number + 1))
        if compared.step is not None and compared.by in SURE:
            keep = (compared.step,)
        options: dict[str, Any] = {"keep": keep, "values_bytes": VALUES_BYTES, "state": True}
        name, label = f"values-for-{number}", f"values for {number}"
        try:
            whole = experiment.run(name, 1, label, stop_after=number + 1, **options)
        except RunMissing:
            return trial
        return replace(trial, rounded=_rounded_step(whole, resumed))


def _is_log(path: Path) -> bool:
    return path.suffix in NO_CHECKPOINTS or path.name.startswith(EVENTS)


# One trial


def _trial(
    number: int, whole: Ended, killed: Ended, resumed: Ended, saved: Sequence[str]
) -> KillTrial:
    """The result of one kill: the first process whose resumed record differs."""
    outside = bool(written_outside([whole, killed, resumed]))
    trial = KillTrial(number, saved=tuple(saved), outside=outside)
    if (trouble := _not_resumed(trial, whole, killed, resumed)) is not None:
        return replace(trial, trouble=trouble)
    ranks = list(zip(*(_by_rank(run) for run in (whole, killed, resumed)), strict=False))
    names = [f"{process}: " if len(ranks) > 1 else "" for process in keyed(_by_rank(whole))]
    results = []
    for name, traces in zip(names, ranks, strict=False):
        result = _compared(number, *traces, stopped=whole.how == "stopped")
        if isinstance(result, str):
            hint = option_text("run check without {resume} first")
            trouble = Conclusion("inconclusive", f"{name}{result}", hint=hint)
            return replace(trial, trouble=trouble)
        results.append(replace(result, text=f"{name}{result.text}") if result.component else result)
    wrong = [result for result in results if result.component]
    return replace(trial, resumed=min(wrong, key=_cause, default=results[0]))


def _cause(result: Resumed) -> tuple[int, bool]:
    """Which rank is the cause: the first that differs, before those that sum up its gradients."""
    step = -1 if result.differs_at is None else result.differs_at
    return step, result.component == "gradients"


def _not_resumed(
    trial: KillTrial, whole: Ended, killed: Ended, resumed: Ended
) -> Conclusion | None:
    """Why there is nothing to compare; None where there is."""
    if (trouble := _how_it_ended(trial, killed, resumed)) is not None:
        return trouble
    if not _by_rank(killed) or not _by_rank(resumed):
        return _no_step(trial, resumed)
    for name, run in {"run 1": whole, "run 2": killed, "the resumed run": resumed}.items():
        if (trouble := _lacking(name, run)) is not None:
            return trouble
    trained, until, after = (len(_by_rank(run)) for run in (whole, killed, resumed))
    if until < trained:
        processes = f"{counted(until, 'process')} of {trained}"
        finding = f"when run 2 was killed it had trained in {processes}"
        hint = "kill it later, or check one process alone"
        return Conclusion("inconclusive", finding, hint=hint)
    if after != trained:
        finding = f"the resumed run trains in {counted(after, 'process')}, expected {trained}"
        return Conclusion("inconclusive", finding, hint="resume with as many processes")
    return None


def _lacking(name: str, run: Ended) -> Conclusion | None:
    """Inconclusive where a record of a run is missing, or does not cover its training."""
    if missing := missing_ranks(_by_rank(run)):
        finding = f"rank {some(missing)} left no record in {name}"
        return Conclusion("inconclusive", finding, hint=ON_THIS_MACHINE)
    for end in _last_ends(run):
        if (gap := gap_of(end)) is not None:
            return Conclusion("inconclusive", f"{name}: {gap.text}", hint=gap.hint)
    return None


def _last_ends(run: Ended) -> list[TraceEnd | None]:
    """The last line of each record, without those of processes that were started again.

    A rank of a run that was stopped may not have written one.
    """
    traces = _by_rank(run)
    pairs = paired(traces, traces)
    ends = [pair.a.end() for pair in pairs if pair.a is not None and not pair.ended_by_parent]
    return [end for end in ends if end is not None] if run.how == "stopped" else ends


def _how_it_ended(trial: KillTrial, killed: Ended, resumed: Ended) -> Conclusion | None:
    if killed.how != "stopped":
        reason = f"it ended by itself before: {describe_end(killed)}"
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
        reason = "there were backward passes, but no optimizer has stepped"
        hint = "a GradScaler leaves out steps whose gradients overflow: was its state restored?"
    elif trial.outside:
        reason = "it may have found what the uninterrupted run has left outside its folder"
        hint = "save within the working folder"
    else:
        reason, hint = "it may have nothing left to do", "kill it earlier"
    return Conclusion("inconclusive", f"the resumed run made no step: {reason}", hint=hint)


def _resume_failed(trial: KillTrial, resumed: Ended) -> Conclusion:
    """Why the resume command failed, as far as its output shows."""
    last = last_output(resumed)
    if trial.saved and any(CUT_SHORT.search(line) for line in resumed.last_lines()):
        finding = f"the checkpoint cannot be read: the kill may have cut it short: {last}"
        hint = "write it to another file, and rename that when it is whole"
        return Conclusion("fail", finding, "checkpoint", "Not restored: anything.", hint)
    hint = f"what it wrote is in {resumed.folder}"
    if not trial.saved and not trial.outside:
        hint = f"nothing had been saved by then: kill it after its first checkpoint; {hint}"
    finding = f"the resume command failed: {resumed.exit_text}: {last}"
    return Conclusion("fail", finding, hint=hint)


def _by_rank(run: Ended) -> list[TraceFile]:
    """The processes that made steps, by rank, then by their start."""
    return sorted((trace for trace in run.traces if trace.has_steps), key=rank_of)


def _compared(
    number: int, whole: TraceFile, killed: TraceFile, resumed: TraceFile, *, stopped: bool
) -> Resumed | str:
    """Compare one process; a text describes that the training itself is not reproducible.

    A run that was `stopped` by --steps does not show where the training ends.
    """
    first = compare(islice(whole.steps(), number), killed.steps()).first
    if first is not None:
        return (
            "not reproducible: the run that was killed differs from the uninterrupted one before"
            f" the kill, first in step {first.step}"
        )
    records = [
        read(trace.steps() if stopped else trace.lines()) for trace in (whole, killed, resumed)
    ]
    return lost_state.compare(records[0], records[1], records[2], number)


def _rounded_step(whole: Ended, resumed: Ended) -> tuple[int, str] | None:
    """The last step whose weights are those of the resumed run in half precision, and in which."""
    expected, actual = _by_rank(whole)[:1], _by_rank(resumed)[:1]
    if not expected or not actual:
        return None
    start = _kept_weights(actual[0]).get(0, {})
    for step, weights in sorted(_kept_weights(expected[0]).items(), reverse=True):
        if half := rounded(weights, start):
            return step, half
    return None


def _kept_weights(trace: TraceFile) -> dict[int, dict[str, tuple[str, bytes]]]:
    """Type and bytes of the parameters, by the step at whose start they were kept and identity."""
    weights: dict[int, dict[str, tuple[str, bytes]]] = {}
    for step in trace.steps():
        for event in step.events:
            data = trace.values(event) if event.kind == "parameter" else None
            if data is not None:
                weights.setdefault(step.step, {})[event.identity] = (event.more.dtype, data)
    return weights


# The answer


def conclude(trials: Sequence[KillTrial]) -> Conclusion:
    """The answer over all kills: the first that failed, else the first that is open."""
    answers = [(trial.kill_after, _answer(trial)) for trial in trials]
    every = tuple((f"killed after {number}", answer.sentence) for number, answer in answers)
    details = every if len(trials) > 1 else ()  # the sentence names a single one
    for outcome in ("fail", "inconclusive"):
        for number, answer in answers:
            if answer.outcome == outcome:
                finding = f"killed after {counted(number, 'step')}: {answer.finding}"
                if outcome == "fail":
                    finding = f"resumed is not the same as uninterrupted: {finding}"
                return replace(answer, finding=finding, details=details)
    finding = f"resumed equals uninterrupted, to the bit, after 1 kill: {answers[0][1].finding}"
    if len(trials) > 1:
        finding = f"resumed equals uninterrupted, to the bit, after each of {len(trials)} kills"
    return Conclusion("pass", finding, details=details)


def verdicts(trials: Sequence[KillTrial]) -> list[Verdict]:
    """The answer to each kill as a verdict."""
    return [
        Verdict(
            check=CHECK,
            subject=f"killed after {counted(trial.kill_after, 'step')}",
            outcome=answer.outcome,
            expected="resumed, the bits of the uninterrupted run",
            actual=answer.sentence,
            hint=answer.hint,
        )
        for trial, answer in ((trial, _answer(trial)) for trial in trials)
    ]


def _answer(trial: KillTrial) -> Conclusion:
    if trial.trouble is not None:
        return trial.trouble
    result = trial.resumed
    assert result is not None
    if result.after_kill or result.from_scratch:
        return _after_kill(result) if result.after_kill else _from_scratch(trial, result)
    if trial.rounded is not None:
        step, half = trial.rounded
        weights = f"every weight is that of step {step} rounded to {half}"
        return _failed("weights", f"it went on at step {step}: {weights}")
    if result.step is None:
        return _failed(result.component, result.text)
    by = f" (found by {result.by})" if result.by != "weights" else ""
    place = f"it went on at step {result.step}{by}"
    if not result.component:
        return Conclusion("pass", f"{place}, {_equal(result)}")
    later = f", {_steps(result)} equal, then in step {result.differs_at}" if result.compared else ""
    failed = _failed(result.component, f"{place}{later}: {result.text}")
    return replace(failed, step=result.step if result.differs_at is None else result.differs_at)


def _steps(result: Resumed) -> str:
    return f"{counted(result.compared, 'step')} {'is' if result.compared == 1 else 'are'}"


def _equal(result: Resumed) -> str:
    """The steps that are equal, and the state that differed without effect."""
    parts = [f"{_steps(result)} equal{' to the end' if result.ended else ''}"]
    if result.generators:
        plural = "" if len(result.generators) == 1 else "s"
        names = f"generator{plural} {some(list(result.generators))}"
        parts.append(f"not restored, and drawn from later without effect: {names}")
    if result.unneeded:
        parts.append(f"not restored, without effect: buffer {some(list(result.unneeded))}")
    return "; ".join(parts)


def _failed(component: str, finding: str) -> Conclusion:
    meaning = f"Not restored: {component}."
    if component == "number of steps":
        meaning = "Resumed, the training is longer or shorter."
    return Conclusion("fail", finding, component, meaning, HINTS[component])


def _after_kill(result: Resumed) -> Conclusion:
    return Conclusion(
        "inconclusive",
        f"{result.text}: it found a file that the uninterrupted run has left",
        hint="save within the working folder, by a relative path: each run has its own copy of it",
    )


def _from_scratch(trial: KillTrial, result: Resumed) -> Conclusion:
    begins = "the weights" if result.by == "weights" else "the batch"
    new = "" if result.by == "weights" else ", new weights and an optimizer without state"
    finding = f"the resume command started anew: it begins with {begins} of step 0{new}"
    if trial.saved:
        finding = f"{finding}, though there was {some(list(trial.saved), 3)}"
        return Conclusion("fail", finding, "anew", "Nothing was restored.", HINTS["anew"])
    if trial.outside:
        finding = f"{finding}; the training writes outside its working folder"
        return Conclusion("inconclusive", finding, hint="save within the working folder")
    finding = f"{finding}, as nothing had been saved by then"
    return Conclusion("inconclusive", finding, hint="kill it after its first checkpoint")
