"""`check --ranks 1,2`: does the training make the same updates on any number of ranks?

Each number of ranks runs once. A difference far beyond rounding is reported at once; else the first
number of ranks runs again with noise of rounding.
"""

import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from xorbench.answers import ROUNDING, Answer
from xorbench.errors import BadOption
from xorbench.options.option_text import option
from xorbench.programs.command_run import CommandRun
from xorbench.programs.command_runs import LONGER, cut_short, notes_of, why_not_comparable
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing, run_rows
from xorbench.programs.kills import Kill
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.questions.resume import FROM_SCRATCH, HINTS, ResumeRequest
from xorbench.programs.questions.rounding import NOISY_RUNS
from xorbench.programs.rank_agreement import agreement_of
from xorbench.programs.rank_comparison import RunsCompared
from xorbench.programs.rounding import norm_of
from xorbench.programs.run_processes import (
    LAUNCHERS,
    ON_THIS_MACHINE,
    missing_ranks,
    port_warning,
    world_size,
)
from xorbench.programs.whole_steps import Loss, WholeStep, ranks_of, whole_steps
from xorbench.records.ended import Ended
from xorbench.verdicts import capitalized, counted, some, worst_outcome

CHECK: Final = "the same on any number of ranks"
EXPECTED: Final = "no larger difference than rounding explains"
PLACE: Final = "{ranks}"
RANKS_OPTION: Final = re.compile(r"--n(?:proc[-_]per[-_]node|um[-_]processes)[= ](\d+)")
LAUNCHED: Final = (
    "use torchrun --standalone --nproc-per-node {ranks}, also for scripts with Accelerate, since"
    " accelerate launch --cpu always starts one process; or give {ranks} to the script that starts"
    " the processes"
)
HANGS: Final = "look for a collective that not every rank calls, or allow more time with --timeout"


@dataclass(frozen=True, slots=True)
class RanksRequest:
    """The check of a command that contains `{ranks}`, and the numbers of ranks."""

    check: CheckRequest
    ranks: tuple[int, ...]
    loss: Loss | None = None
    asker: ClassVar[str] = "check"

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "RanksRequest":
        """The question of an earlier check."""
        return cls(check, tuple(saved["ranks"]), saved.get("loss"))

    @property
    def title(self) -> str:
        """The command, and the numbers of ranks."""
        return f"{self.check.command} with {some(list(map(str, self.ranks)))} ranks"

    def commands(self) -> dict[str, CommandRun]:
        """The command for each number of ranks; raises `BadOption`."""
        if not any(PLACE in word for word in self.check.words):
            hint = "such as -- torchrun --standalone --nproc-per-node {ranks} train.py"
            raise BadOption(f"{option('ranks')}: the command has no {PLACE}", hint)
        run, names = self.check.command_run(), [MAIN, *map(str, self.ranks[1:])]
        return {
            name: replace(run, words=tuple(word.replace(PLACE, str(count)) for word in run.words))
            for name, count in zip(names, self.ranks, strict=True)
        }

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """One run for each number of ranks, and the runs with noise."""
        run, first = commands[MAIN], counted(self.ranks[0], "rank")
        return [
            *(f"runs once: {shlex.join(command.words)}" for command in commands.values()),
            f"if they differ little: {NOISY_RUNS} runs with {first} and noise of rounding",
            *self.check.place_lines(run),
            *filter(None, [port_warning(run.words), processors_note(max(self.ranks))]),
        ]

    def saved(self) -> dict[str, Any]:
        """The numbers of ranks, and the loss."""
        return {"ranks": list(self.ranks), "loss": self.loss}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare each number of ranks with the first."""
        runs = RankRuns(experiment, self.check.words)
        names = {count: counted(count, "rank") for count in self.ranks}
        (first, *others), note = self.ranks, processors_note(max(self.ranks))
        with suppress(RunMissing):
            for count, name in names.items():
                run = runs.make(f"ranks-{count}", name, MAIN if count == first else str(count))
                trouble = trouble_of(self.check.words, run, count)
                if trouble is None and count == first:
                    trouble = agreement_of([run]).failure
                if trouble is not None:
                    finding = f"with {name}: {trouble.finding}"
                    runs.conclusions[name] = replace(trouble, finding=finding)
                    return runs.judgement()
            steps = whole_steps(runs.ended[f"ranks-{first}"])
            for count in others:
                run, pair = runs.ended[f"ranks-{count}"], (names[first], names[count])
                compared = RunsCompared(pair, steps, whole_steps(run), runs.noise, self.loss)
                compared.require_equal_batches()
                runs.conclusions[names[count]] = compared.conclusion(agreement_of([run]))
        return runs.judgement(note=note)


def trouble_of(words: Sequence[str], run: Ended, expected: int = 0) -> Conclusion | None:
    """The conclusion if a run cannot be compared: it failed, or has not the expected ranks."""
    too_long = run.how == "timeout" and run.trained
    if not too_long and (trouble := why_not_comparable(words, [run])):
        return trouble
    counts = {rank: trace.step_count for rank, trace in ranks_of(run).items()}
    counts = dict.fromkeys(range(world_size(run.traces)), 0) | counts
    texts = some([f"rank {rank} after {counted(n, 'step')}" for rank, n in counts.items()])
    if too_long:
        finding = f"the command {cut_short(run)}: {texts}"
        return Conclusion("inconclusive", finding, hint=HANGS if len(counts) > 1 else LONGER)
    if missing := missing_ranks(run.traces):
        finding = f"no record of {some([f'rank {rank}' for rank in missing])}"
        return Conclusion("inconclusive", finding, hint=ON_THIS_MACHINE)
    if expected and len(counts) != expected:
        finding = f"the command started {counted(len(counts), 'rank')}, not {expected}"
        return Conclusion("inconclusive", finding, hint=LAUNCHED)
    if run.how == "ended" and len(set(counts.values())) > 1:
        return Conclusion("fail", f"the ranks make different numbers of steps: {texts}", "ranks")
    return None


def processors_note(ranks: int) -> str:
    """A note if there are more ranks than processors; else empty."""
    processors = os.cpu_count() or 1
    text = f"{ranks} ranks share {counted(processors, 'processor')}"
    return text if ranks > processors else ""


@dataclass(slots=True)
class RankRuns:
    """The runs of a question, recorded with samples and sketches, and its conclusions."""

    experiment: Experiment
    words: Sequence[str]
    ended: dict[str, Ended] = field(default_factory=dict)
    conclusions: dict[str, Conclusion] = field(default_factory=dict)
    _noise: list[list[WholeStep]] = field(default_factory=list)

    def make(
        self, name: str, label: str, command: str = MAIN, number: int = 1, **options: Any
    ) -> Ended:
        """Make or read one run; raises `RunMissing`."""
        options |= {"command": command, "sketches": True, "samples": True}
        self.ended[name] = self.experiment.run(name, number, label, **options)
        return self.ended[name]

    def noise(self) -> list[list[WholeStep]] | Conclusion:
        """The steps of the runs with noise, made once, or why one is not comparable."""
        for number in range(len(self._noise) + 1, NOISY_RUNS + 1):
            label = f"noise of rounding, run {number}"
            run = self.make(f"noise-{number}", label, noise=number)
            if trouble := trouble_of(self.words, run):
                finding = f"cannot tell: with noise of rounding: {trouble.finding}"
                return replace(trouble, outcome="inconclusive", finding=finding)
            self._noise.append(whole_steps(run))
        return self._noise

    def judgement(self, note: str = "") -> Judgement:
        """The worst answer, with a verdict for each number of ranks."""
        end = "the check was stopped before two runs could be compared"
        stopped = {"the runs": Conclusion("inconclusive", end)}
        conclusions = self.conclusions or stopped
        worst = worst_outcome(conclusion.outcome for conclusion in conclusions.values())
        chosen = next(c for c in conclusions.values() if c.outcome == worst)
        notes = tuple(filter(None, [*notes_of(list(self.ended.values())), note]))
        conclusion, rows = replace(chosen, notes=notes), run_rows(self.ended.values(), self.ended)
        verdicts = [each.verdict(CHECK, name, EXPECTED) for name, each in conclusions.items()]
        answers = [Answer(ROUNDING, worst, capitalized(conclusion.finding))]
        return Judgement(conclusion, verdicts, rows, {"runs": rows}, answers)


# A resume on a different number of ranks


def starts_other_ranks(words: Sequence[str], resume: Sequence[str]) -> bool:
    """Whether two commands start different numbers of ranks with a launcher."""
    counts = []
    for side in (words, resume):
        is_launched = any(map(LAUNCHERS.search, side))  # torchrun starts one rank by default
        counts.append((["1"] * is_launched + RANKS_OPTION.findall(" ".join(side)))[-1:])
    return all(counts) and counts[0] != counts[1]


class RankResumeRequest(ResumeRequest):
    """The check of a command whose resume command starts a different number of ranks."""

    __slots__ = ()

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The uninterrupted run, two runs per kill, and the runs with noise."""
        noise = f"if they differ little: {NOISY_RUNS} more runs with noise of rounding"
        return [*super().plan(commands), noise]

    def saved(self, _checkpoints: object = None) -> dict[str, Any]:
        """The resume command and the kills."""
        return {**super().saved(), "resume_ranks": True}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare each resumed run with the uninterrupted run."""
        runs = RankRuns(experiment, self.check.words)
        with suppress(RunMissing):
            run = runs.make("run-1", "run 1")
            if trouble := trouble_of(self.check.words, run):
                runs.conclusions["the uninterrupted run"] = trouble
                return runs.judgement()
            whole = whole_steps(run)
            for steps in self.kill_after or ():
                name = f"the resume after {counted(steps, 'step')}"
                runs.conclusions[name] = self._resumed(runs, whole, steps)
        return runs.judgement()

    def _resumed(self, runs: RankRuns, whole: Sequence[WholeStep], steps: int) -> Conclusion:
        """Kill the training, resume it, and compare."""
        kill, label = Kill(steps), f"resumed after {steps}"
        runs.make(f"killed-{kill.name}", kill.label, number=2, **kill.options)
        run = runs.make(f"resumed-{kill.name}", label, "resume", number=3, same_place=True)
        if trouble := trouble_of(self.resume, run):
            return replace(trouble, finding=f"after the resume: {trouble.finding}")
        if not (resumed := whole_steps(run)):
            return Conclusion("inconclusive", "the resumed run makes no step on every rank")
        if not (first := resumed_at(whole[: steps + 1], resumed)):
            finding = f"{kill.text}, the training began {FROM_SCRATCH}"
            return Conclusion("fail", finding, hint=HINTS[FROM_SCRATCH])
        before, after = (
            counted(len(ranks_of(each)), "rank") for each in (runs.ended["run-1"], run)
        )
        done = counted(steps, "step")
        place = f"killed on {before} after {done}, resumed on {after} at step {first}"
        names = "the uninterrupted run", place
        compared = RunsCompared(names, whole, resumed, runs.noise, first=first)
        return compared.conclusion(agreement_of([run]))


def resumed_at(a: Sequence[WholeStep], b: Sequence[WholeStep]) -> int:
    """The step of the first run in which most parameters are closest to the initial ones of `b`."""
    starts = [("initial", a[0]), *(("parameter", step) for step in a[:-1])]
    votes = Counter[int]()
    for (kind, name), sketch in b[0].step.sketches.items():
        known = [whole.step.sketches.get((wanted, name)) for wanted, whole in starts]
        if kind == "initial" and None not in known:
            gaps = [norm_of(k.sums - sketch.sums) for k in known if k]
            votes.update(step for step, gap in enumerate(gaps) if gap == min(gaps) < max(gaps))
    return max(votes, key=lambda step: (votes[step], step), default=0)
