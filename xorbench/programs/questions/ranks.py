"""`check --ranks 1,2`: does the training make the same updates on any number of ranks?

Each number of ranks runs once. A difference far beyond rounding is reported at once; else the first
number of ranks runs again with noise of rounding.
"""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Final

from xorbench.answers import ROUNDING, Answer
from xorbench.errors import BadOption
from xorbench.options.option_text import option
from xorbench.programs.command_run import CommandRun
from xorbench.programs.command_runs import notes_of, why_not_comparable
from xorbench.programs.conclusion import Conclusion
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing, run_rows
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.questions.rounding import NOISY_RUNS, row_text
from xorbench.programs.questions.rounding import conclusion_of as rounding_conclusion
from xorbench.programs.rank_agreement import agreement_of, conclusion_of
from xorbench.programs.rank_comparison import (
    CERTAIN,
    SampleComparison,
    cause_of_row,
    gross_difference,
)
from xorbench.programs.rounding import Comparison, RoundingAnswer, Row, judge
from xorbench.programs.run_processes import ON_THIS_MACHINE, missing_ranks, port_warning, world_size
from xorbench.programs.whole_steps import Loss, WholeStep, as_one, ranks_of, whole_steps
from xorbench.records.ended import Ended
from xorbench.verdicts import capitalized, counted, some, worst_outcome

CHECK: Final = "the same on any number of ranks"
EXPECTED: Final = "no larger difference than rounding explains"
PLACE: Final = "{ranks}"
DRAWS: Final = (
    "cannot tell: the model draws random numbers, as in dropout, which differ between ranks by"
    " design; the batches are the same, the gradients are not"
)
WITHOUT_DRAWS: Final = (
    "set dropout and other random draws of the model to zero, such as model.eval() for the dropout"
    " modules or p=0, and compare again"
)
LAUNCHED: Final = (
    "give {ranks} to a launcher that starts as many processes on this machine, such as torchrun;"
    " accelerate launch --cpu starts one"
)
HANGS: Final = "look for a collective that not every rank calls, or allow more time with --timeout"
ORDER: Final = (
    "make the batches of all ranks together the batch of one rank: use the same sampler, such as"
    " DistributedSampler, on any number of ranks, and no random augmentation"
)


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
        run, commands = self.check.command_run(), dict[str, CommandRun]()
        for count in self.ranks:
            words = tuple(word.replace(PLACE, str(count)) for word in run.words)
            commands[self._command(count)] = replace(run, words=words)
        return commands

    def _command(self, count: int) -> str:
        return MAIN if count == self.ranks[0] else str(count)

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
        runs: dict[str, Ended] = {}
        conclusions: dict[str, Conclusion] = {}
        names = {count: counted(count, "rank") for count in self.ranks}
        with suppress(RunMissing):
            for count, name in names.items():
                run = run_whole(experiment, f"ranks-{count}", name, self._command(count))
                runs[f"ranks-{count}"] = run
                trouble = trouble_of(self.check.words, run, count)
                if count == self.ranks[0]:
                    trouble = trouble or conclusion_of(agreement_of([run]))
                if trouble:
                    finding = f"with {name}: {trouble.finding}"
                    return judgement({name: replace(trouble, finding=finding)}, runs)
            (a, *others), noise = list(runs.values()), noise_of(experiment, runs)
            steps = whole_steps(a)
            for count, b in zip(self.ranks[1:], others, strict=True):
                pair = names[self.ranks[0]], names[count]
                compared = RunsCompared(pair, steps, whole_steps(b), noise, self.loss)
                require_equal_batches(compared.samples, pair)
                conclusions[pair[1]] = conclusion_or_disagreement(compared, b)
        return judgement(conclusions, runs, processors_note(max(self.ranks)))


# Parts that a resume on another number of ranks shares


def run_whole(
    experiment: Experiment, name: str, label: str, command: str, number: int = 1, **options: Any
) -> Ended:
    """Make or read one run whose tensors can be compared as whole tensors."""
    kinds = {"sketches": True, "samples": True}
    return experiment.run(name, number, label, command=command, **kinds, **options)


def trouble_of(words: Sequence[str], run: Ended, expected: int = 0) -> Conclusion | None:
    """The conclusion if a run cannot be compared: it failed, or has not the expected ranks."""
    hangs = run.how == "timeout" and any(trace.has_steps for trace in run.traces)
    if not hangs and (trouble := why_not_comparable(words, [run])):
        return trouble
    counts = {rank: trace.step_count for rank, trace in ranks_of(run).items()}
    counts = dict.fromkeys(range(world_size(run.traces) if hangs else 0), 0) | counts
    texts = some([f"rank {rank} after {counted(n, 'step')}" for rank, n in counts.items()])
    if hangs:
        finding = f"a rank hangs: after {run.wall_s:.0f} s the ranks had stopped: {texts}"
        return Conclusion("inconclusive", finding, hint=HANGS)
    if missing := missing_ranks(run.traces):
        finding = f"no record of {some([f'rank {rank}' for rank in missing])}"
        return Conclusion("inconclusive", finding, hint=ON_THIS_MACHINE)
    if expected and (started := max(world_size(run.traces), len(counts))) != expected:
        finding = f"the command started {counted(started, 'rank')}, not {expected}"
        return Conclusion("inconclusive", finding, hint=LAUNCHED)
    if run.how == "ended" and len(set(counts.values())) > 1:
        return Conclusion("fail", f"the ranks make different numbers of steps: {texts}", "ranks")
    return None


def processors_note(ranks: int) -> str:
    """A note if there are more ranks than processors; else empty."""
    processors = os.cpu_count() or 1
    text = f"{ranks} ranks share {counted(processors, 'processor')}"
    return text if ranks > processors else ""


def require_equal_batches(samples: SampleComparison, names: tuple[str, str]) -> None:
    """Raise `BadOption` if the ranks together have another number of rows than the reference."""
    a, b = samples.sizes
    if a != b:
        message = f"{option('ranks')}: a step has {a} rows with {names[0]}, {b} with {names[1]}"
        hint = "divide the batch by the number of ranks, and give numbers that divide it"
        raise BadOption(message, hint)


def noise_of(
    experiment: Experiment, runs: dict[str, Ended], first: int = 0
) -> Callable[[], list[list[WholeStep]]]:
    """A function that makes the missing noisy runs of the reference, and returns their steps."""

    @cache
    def steps() -> list[list[WholeStep]]:
        names = {f"noise-{number}": number for number in range(1, NOISY_RUNS + 1)}
        for name, number in names.items():
            if name not in runs:  # made for an earlier kill
                label = f"noise of rounding, run {number}"
                runs[name] = run_whole(experiment, name, label, MAIN, noise=number)
        return [whole_steps(runs[name], first) for name in names]

    return steps


@dataclass(slots=True)
class RunsCompared:
    """Two runs on different numbers of ranks.

    Attributes:
        names: the numbers of ranks in words.
        a, b: their steps.
        noise: returns the steps of the noisy runs of the first.
        loss: how the losses of the ranks make the whole.
        difference: the beginning of the answer if they differ; by default the numbers of ranks.
        before: the steps of the first run before them.
        agrees: whether the ranks of `b` agree; else no noise is needed.
    """

    names: tuple[str, str]
    a: Sequence[WholeStep]
    b: Sequence[WholeStep]
    noise: Callable[[], list[list[WholeStep]]]
    loss: Loss | None = None
    difference: str = ""
    before: Sequence[WholeStep] = ()
    agrees: bool = True
    samples: SampleComparison = field(init=False)
    details: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        counts = [f"{len(s)} with {n}" for s, n in zip((self.a, self.b), self.names, strict=True)]
        steps = (("steps", ", ".join(counts)),) if len(self.a) != len(self.b) else ()
        pairs = list(zip(self.a, self.b, strict=False))
        self.a = [as_one(x, x, self.loss) for x, _ in pairs]
        self.b = [as_one(y, x, self.loss) for x, (_, y) in zip(self.a, pairs, strict=True)]
        self.samples = SampleComparison(self.a, self.b, self.before)
        self.details = (("samples", capitalized(self.samples.text)), *steps)

    def conclusion(self) -> Conclusion:
        """The answer: from the samples, from gross differences, or in units of noise."""
        count = self.samples.same_steps
        a, b = self.a[:count], self.b[:count]
        cause, answer = gross_difference(a, b), None
        if cause is None and self.samples.is_lost:
            return self._different(self.samples.step, f"samples: {self.samples.text}", ORDER)
        began_earlier = cause is not None and cause.step and not cause.hint
        if self.agrees and count and (cause is None or began_earlier):
            own, other = ([whole.step for whole in side] for side in (a, b))
            noisy = [[whole.step for whole in run[:count]] for run in self.noise()]
            answer = judge(Comparison(own, own, other, noisy))
            cause = cause_of_row(answer.first, a, b) if answer.first else cause
        if cause is None:
            return self._same(answer)
        if a[cause.step].draws and cause.hint not in CERTAIN and cause.kind != "initial":
            return Conclusion("inconclusive", DRAWS, hint=WITHOUT_DRAWS, details=self.details)
        resumed = "before the kill", "after the resume"
        sides = resumed if self.difference else [f"with {name}" for name in self.names]
        pattern = cause.pattern.replace(" in A", f" {sides[0]}").replace(" in B", f" {sides[1]}")
        place = row_text(Row(cause.step, cause.kind, cause.name)).partition(": ")[0]
        finding = f"first in step {len(self.before) + cause.step}, in {place}: {pattern}"
        return self._different(cause.step, finding, cause.hint)

    def _different(self, step: int | None, finding: str, hint: str) -> Conclusion:
        a, b = self.names
        lead = self.difference or f"{b} {'is' if b == '1 rank' else 'are'} not {a}"
        text, step = f"{lead}: {finding}", None if step is None else len(self.before) + step
        component, meaning = "number of ranks", "The two runs do not make the same updates."
        return Conclusion("fail", text, component, meaning, hint, self.details, step=step)

    def _same(self, answer: RoundingAnswer | None) -> Conclusion:
        answer = answer or RoundingAnswer("cannot tell")
        same = rounding_conclusion(answer, Conclusion("pass", ""))
        if same.outcome == "inconclusive" and self.samples.step is None:
            return replace(same, details=self.details)
        if same.outcome == "inconclusive" or self.samples.less:
            steps = f"{len(answer.judged)} of {counted(len(self.a), 'step')} judged"
            finding = f"cannot tell: {steps}; samples: {self.samples.text}"
            return Conclusion("inconclusive", finding, hint=ORDER, details=self.details)
        finding = f"{self.names[1]} and {self.names[0]}: {same.finding}"
        finding += "" if self.samples.step is None else f"; samples: {self.samples.text}"
        finding += "".join(f"; {name}: {text}" for name, text in self.details[1:])
        return Conclusion("pass", finding, details=self.details)


def conclusion_or_disagreement(compared: RunsCompared, run: Ended) -> Conclusion:
    """The conclusion, or the disagreement of the ranks of the run if that comes first."""
    agreement = agreement_of([run])
    disagreement = conclusion_of(agreement)
    compared.agrees = disagreement is None
    conclusion = compared.conclusion()
    if agreement is None or (first := agreement.first) is None or disagreement is None:
        return conclusion
    # The step before has changed a parameter.
    step = first.step - {"parameter": 1, "final parameter": 2}.get(first.kind, 0)
    later = conclusion.step is None or step < conclusion.step + (not conclusion.hint)
    return disagreement if later else conclusion


def judgement(
    conclusions: Mapping[str, Conclusion], runs: Mapping[str, Ended], note: str = ""
) -> Judgement:
    """The worst answer, with a verdict for each number of ranks."""
    stopped = Conclusion("inconclusive", "the check was stopped before two runs could be compared")
    conclusions = conclusions or {"the runs": stopped}
    worst = worst_outcome(conclusion.outcome for conclusion in conclusions.values())
    chosen = next(c for c in conclusions.values() if c.outcome == worst)
    notes = tuple(filter(None, [*notes_of(list(runs.values())), note]))
    conclusion = replace(chosen, notes=notes)
    rows = run_rows(runs.values(), runs)
    verdicts = [each.verdict(CHECK, name, EXPECTED) for name, each in conclusions.items()]
    answers = [Answer(ROUNDING, worst, capitalized(conclusion.finding))]
    return Judgement(conclusion, verdicts, rows, {"runs": rows}, answers)
