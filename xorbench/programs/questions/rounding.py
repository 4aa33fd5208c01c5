"""`--up-to-rounding`: does B differ from A by more than rounding explains?

The exact comparison runs first. Only if the bits differ, A runs again with noise of rounding.
`explain` then finds the operator in which a larger difference begins.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from xorbench.answers import ROUNDING, Answer
from xorbench.options.option_text import option_text
from xorbench.programs.command_run import CommandRun
from xorbench.programs.command_runs import cut_short, notes_of, why_not_comparable
from xorbench.programs.conclusion import Conclusion, conclude
from xorbench.programs.cross_comparison import SIDES, compare_commands
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing, run_rows
from xorbench.programs.questions.against import TwoCommands
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.rounding import (
    LIMIT,
    Comparison,
    RoundingAnswer,
    Row,
    Step,
    judge,
    merged,
    read_steps,
)
from xorbench.programs.rounding_report import conclusion_of, for_programs, row_text, times_text
from xorbench.records.ended import KILLED, Ended
from xorbench.records.redaction import shown_command, shown_words
from xorbench.records.trace import TraceFile
from xorbench.verdicts import capitalized, counted, some

if TYPE_CHECKING:
    import pandas as pd

    from xorbench.report.content import Picture

CHECK: Final = "same up to rounding"
NOISY_RUNS: Final = 4
EAGER: Final = {"TORCHDYNAMO_DISABLE": "1"}  # a compiled region shows no operators to noise
NOISE_NAMES: Final = [f"noise-{number}" for number in range(1, NOISY_RUNS + 1)]
LABELS: Final = {"reset": "B, from the states of A", "eager": "A, eager"} | {
    name: f"A with noise, run {number}" for number, name in enumerate(NOISE_NAMES, 1)
}
EXPECTED: Final = "no larger than rounding explains"
WITH_NOISE: Final = "A with noise"
SHORTER: Final = option_text("end the runs with {steps}, or allow more time with {timeout}")


@dataclass(frozen=True, slots=True)
class RoundingRequest(TwoCommands):
    """The check of B, and the command A."""

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "RoundingRequest":
        """The question of an earlier check."""
        return cls(check, tuple(saved["against"]))

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """One run of each, and the runs with noise."""
        explains = self.asker == "explain"
        return [
            f"A: {shown_command(self.against)}",
            f"B: {self.check.command}",
            "one run each, to compare the bits",
            f"if the bits differ: {NOISY_RUNS} runs of A with noise of rounding",
            *(["if they differ beyond rounding: six runs that record operators"] * explains),
            *self.check.place_lines(commands[MAIN]),
        ]

    def saved(self) -> dict[str, Any] | None:
        """The command A."""
        return {"against": shown_words(self.against), "up_to_rounding": True}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare the bits, and if they differ, the difference with the noise of rounding."""
        states = experiment.folder.resolve() / "a" / "records" / "states"
        try:
            return self._answer(experiment, states)
        finally:
            shutil.rmtree(states, ignore_errors=True)

    def _answer(self, experiment: Experiment, states: Path) -> Judgement:
        keep = {"A": {"keep_states": str(states)}, MAIN: {}}
        runs: dict[str, Ended] = {}
        with suppress(RunMissing):
            for side in SIDES:
                options = {"notice": True, **keep[side]}
                runs[side] = _run(experiment, f"run of {side}", side, side.lower(), **options)
                if trouble := _trouble(side, self.words(side), runs[side]):
                    return _judgement(trouble, runs)
            exact = conclude(compare_commands(runs["A"], runs[MAIN]))
            if exact.outcome == "pass":
                return _judgement(exact, runs)
            options = self._from_states(experiment, runs, states)
            noisy = _noisy_runs(experiment, "", **options)
            runs |= noisy
            for run in noisy.values():
                if trouble := _trouble(WITH_NOISE, self.against, run):
                    return _judgement(trouble, runs)
            ends = [trace.end() for run in noisy.values() for trace in run.traces]
            unknown = sorted({name for end in ends if end for name in end.unknown_rounding})
            text = f"no noise, because their rounding is unknown: {some(unknown)}"
            exact = replace(exact, notes=(*exact.notes, *[text] * bool(unknown)))
            answer = judge(_comparison(runs))
            conclusion, first = conclusion_of(answer, exact), answer.first
            if self.asker == "explain" and first is not None and not first.text:
                conclusion = self._with_operator(conclusion, first, experiment, options)
            return _judgement(conclusion, runs, answer)
        stopped = Conclusion("inconclusive", "the check was stopped during its runs")
        return _judgement(stopped, runs)

    def _from_states(
        self, experiment: Experiment, runs: dict[str, Ended], states: Path
    ) -> dict[str, Any]:
        """Run B from the states of A; return the options of the runs with noise."""
        options: dict[str, Any] = {"start_from": str(states)}
        reset = _run(experiment, LABELS["reset"], MAIN, "b-reset", **options)
        comparable = _trouble(MAIN, self.words(MAIN), reset) is None
        if comparable and any(step.reset for step in read(reset)):
            runs["reset"] = reset
        else:
            options = {}
        if any(line.why == "compilation" for line in runs["A"].events("used")):
            options["variables"] = EAGER
            runs["eager"] = _run(experiment, LABELS["eager"], "A", "eager", **options)
        return options

    def _with_operator(
        self,
        conclusion: Conclusion,
        first: Row,
        experiment: Experiment,
        options: Mapping[str, Any],
    ) -> Conclusion:
        """Add the first operator beyond rounding, from runs that record all operators of a step."""
        options = {**options, "detail": (first.step, first.step), "stop_after": first.step + 1}
        runs = {
            side: _run(experiment, f"operators of {side}", side, f"operators-{side}", **options)
            for side in SIDES
        } | _noisy_runs(experiment, "operators-", **options)
        a, b, *noisy = map(read, runs.values())
        text = _first_operator(a, b, noisy, first.step)
        return replace(conclusion, details=(*conclusion.details, ("first operator", text)))


@dataclass(frozen=True, slots=True)
class RoundingExplanation(RoundingRequest):
    """The check of B, and the operator in which a difference beyond rounding begins."""

    asker: ClassVar[str] = "explain"

    def saved(self) -> None:
        """Nothing, because the last runs depend on the earlier runs."""


def _run(experiment: Experiment, label: str, command: str, name: str, **options: Any) -> Ended:
    return experiment.run(name, 1, label, command=command, sketches=True, **options)


def _noisy_runs(experiment: Experiment, prefix: str, **options: Any) -> dict[str, Ended]:
    """The runs of A with noise."""
    return {
        name: _run(experiment, LABELS[name], "A", prefix + name, noise=number, **options)
        for number, name in enumerate(NOISE_NAMES, 1)
    }


def _trouble(name: str, words: Sequence[str], run: Ended) -> Conclusion | None:
    """The conclusion if a run is not comparable; with noise, a check of the program may fail."""
    trouble = why_not_comparable(words, [run])
    if trouble is not None:
        if name == WITH_NOISE:
            name, trouble = f"cannot tell: {name}", replace(trouble, outcome="inconclusive")
        return replace(trouble, finding=f"{name}: {trouble.finding}")
    if run.how not in KILLED:
        return None
    return Conclusion("inconclusive", f"cannot tell: {name} {cut_short(run)}", hint=SHORTER)


def _comparison(runs: Mapping[str, Ended]) -> Comparison:
    is_whole = len({len(_training(run)) for run in runs.values()}) > 1
    steps = {name: read(run, whole=is_whole) for name, run in runs.items()}
    noisy = [steps[name] for name in NOISE_NAMES]
    a, b = steps["A"], steps.get("reset", steps[MAIN])
    return Comparison(a, steps.get("eager", a), b, noisy)


def read(run: Ended, *, whole: bool = False) -> list[Step]:
    """The steps of a run; with `whole` only the tensors that do not depend on its ranks."""
    return merged([read_steps(trace.lines()) for trace in _training(run)], whole=whole)


def _training(run: Ended) -> list[TraceFile]:
    """The traces of the ranks of a training; without ranks, its longest trace."""
    ranks = [t for t in run.trained if t.head.process and t.head.process.rank]
    return ranks or [max(run.traces, key=lambda trace: trace.step_count)]


def _first_operator(
    a: Sequence[Step], b: Sequence[Step], noisy: Sequence[Sequence[Step]], step: int
) -> str:
    """The first operator of a step whose result is beyond rounding, or that only one run has."""
    if len(a) <= step or len(b) <= step:
        return "not found: a run with operators is shorter"
    own, other = ([n for k, n in run[step].sketches if k == "operator"] for run in (a, b))
    pairs = enumerate(zip(own, other, strict=False))
    same = next((place for place, (x, y) in pairs if x != y), min(len(own), len(other)))
    for name in own[same:]:
        del a[step].sketches["operator", name]
    row = judge(Comparison(a, a, b, noisy)).first
    if row is not None and row.kind == "operator" and row.step == step:
        return f"{_place(b[step], row.name)}: {row_text(row).partition(': ')[2]}"
    if same < min(len(own), len(other)):
        return f"{_place(a[step], own[same])} in A, {_place(b[step], other[same])} in B"
    return "not found: the recorded operators agree up to rounding"


def _place(step: Step, operator: str) -> str:
    """The name of an operator and the line that calls it."""
    where = step.places.get(operator)
    name = operator.partition(" ")[2]
    return f"{name} at {where}" if where else name


def _judgement(
    conclusion: Conclusion, runs: Mapping[str, Ended], answer: RoundingAnswer | None = None
) -> Judgement:
    notes = dict.fromkeys([*conclusion.notes, *notes_of(list(runs.values()))])
    rows = run_rows(runs.values(), [LABELS.get(name, name) for name in runs])
    return Judgement(
        replace(conclusion, notes=tuple(notes)),
        [conclusion.verdict(CHECK, "A and B", EXPECTED)],
        rows,
        {"rounding": answer and for_programs(answer), "runs": rows},
        [Answer(ROUNDING, conclusion.outcome, capitalized(conclusion.finding))],
        pictures=[_picture(answer)] if answer and find_spec("matplotlib") else (),
    )


def _picture(answer: RoundingAnswer) -> "Picture":
    import pandas as pd  # slow to import

    from xorbench.report.content import Picture

    return Picture(
        "rounding",
        "Difference and noise by step",
        "Left: the largest difference of B from A in each step, in units of the noise of rounding."
        " Right: the median noise of the gradients, relative to them",
        lambda: pd.DataFrame(answer.by_step),
        _draw,
        lambda frame: (
            f"{counted(len(frame), 'step')}; the largest ratio is"
            f" {times_text(frame['ratio'].max())}, the limit {LIMIT:.0f};"
            f" the largest noise is {frame['noise'].max():.2g}."
        ),
    )


def _draw(frame: "pd.DataFrame") -> str:
    from matplotlib.ticker import MaxNLocator  # slow to import

    from xorbench.report.drawing import drawn, line_style

    with drawn(2.2, columns=2) as (axes, svg):
        labels = {"ratio": "ratio to the noise", "noise": "noise of the gradients"}
        for number, (own, column) in enumerate(zip(axes, labels, strict=True)):
            own.plot(frame["step"], frame[column], marker=".", **line_style(number))
            own.yaxis.set_major_formatter("{x:g}")  # matplotlib's is in TeX
            own.xaxis.set_major_locator(MaxNLocator(integer=True))
            own.set(xlabel="step", ylabel=labels[column])
        if frame["ratio"].max() > 0:
            axes[0].set_yscale("log")
            axes[0].yaxis.set_major_formatter("{x:g}")
        axes[1].set_ylim(0)
        axes[0].axhline(LIMIT, **line_style(6))
    return svg.getvalue()
