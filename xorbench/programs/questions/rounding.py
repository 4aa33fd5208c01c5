"""`check --against --up-to-rounding`: does B differ from A by more than rounding explains?

The exact comparison runs first. Only if the bits differ, A runs again with noise of rounding.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from xorbench.answers import ROUNDING, Answer
from xorbench.programs.command_run import CommandRun
from xorbench.programs.command_runs import notes_of, why_not_comparable
from xorbench.programs.conclusion import Conclusion, conclude
from xorbench.programs.cross_comparison import SIDES, compare_commands
from xorbench.programs.experiment import MAIN, Experiment, Judgement, RunMissing, run_rows
from xorbench.programs.questions.against import commands_of, title
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.rounding import (
    LIMIT,
    Comparison,
    RoundingAnswer,
    Row,
    Step,
    judge,
    read_steps,
    reset_steps,
)
from xorbench.records.ended import Ended
from xorbench.records.redaction import shown_command, shown_words
from xorbench.verdicts import Outcome, capitalized, counted, failed, inconclusive, passed, some

CHECK: Final = "same up to rounding"
NOISY_RUNS: Final = 4
EAGER: Final = {"TORCHDYNAMO_DISABLE": "1"}  # a compiled region shows no operators to noise
OUTCOMES: Final[dict[str, Outcome]] = {
    "same": "pass", "beyond": "fail", "cannot tell": "inconclusive",
}  # fmt: skip
EXPECTED: Final = "no larger than rounding explains"


@dataclass(frozen=True, slots=True)
class RoundingRequest:
    """The check of B, and the command A."""

    check: CheckRequest
    against: tuple[str, ...]
    asker: ClassVar[str] = "check"

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "RoundingRequest":
        """The question of an earlier check."""
        return cls(check, tuple(saved["against"]))

    @property
    def title(self) -> str:
        """Both commands, as typed in a shell."""
        return title(self.against, self.check)

    def commands(self) -> dict[str, CommandRun]:
        """A and B; raises `BadOption`."""
        return commands_of(self.against, self.check)

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """One run of each, and the runs with noise."""
        return [
            f"A: {shown_command(self.against)}",
            f"B: {self.check.command}",
            "one run each, to compare the bits",
            f"if the bits differ: {NOISY_RUNS} runs of A with noise of rounding",
            *self.check.place_lines(commands[MAIN]),
        ]

    def saved(self) -> dict[str, Any]:
        """The command A."""
        return {"against": shown_words(self.against), "up_to_rounding": True}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare the bits, and if they differ, the difference with the noise of rounding."""
        runs: dict[str, Ended] = {}
        states = experiment.folder.resolve() / "a" / "records" / "states"
        try:
            return self._answer(experiment, runs, states)
        finally:
            shutil.rmtree(states, ignore_errors=True)

    def _answer(self, experiment: Experiment, runs: dict[str, Ended], states: Path) -> Judgement:
        with suppress(RunMissing):
            for side in SIDES:
                label = f"run of {side}"
                keep = {"keep_states": str(states)} if side == "A" else {}
                runs[side] = self._run(experiment, side.lower(), label, side, notice=True, **keep)
                if trouble := self._trouble(side, runs):
                    return _judgement(trouble, runs)
        across = compare_commands(runs["A"], runs["B"])
        exact = conclude(across)
        if exact.outcome == "pass":
            return _judgement(exact, runs)
        eager = EAGER if "compilation" in _used(runs["A"]) else {}
        options: dict[str, Any] = {"variables": eager}
        with suppress(RunMissing):
            label = "B, each step from the state of A"
            runs["reset"] = self._run(experiment, "b-reset", label, MAIN, start_from=str(states))
            if reset_steps(read(runs["reset"])) > 1:
                options["start_from"] = str(states)
            else:
                del runs["reset"]
            if eager:
                runs["eager"] = self._run(experiment, "eager", "A, eager", "A", **options)
            for number in range(1, NOISY_RUNS + 1):
                name, label = f"noise-{number}", f"A with noise, run {number}"
                runs[name] = self._run(experiment, name, label, "A", noise=number, **options)
                if trouble := self._trouble("A", {"A": runs[name]}):
                    return _judgement(trouble, runs)
        answer = judge(_comparison(runs))
        return _judgement(conclusion_of(answer, exact), runs, answer)

    def _run(
        self, experiment: Experiment, name: str, label: str, command: str, **options: Any
    ) -> Ended:
        return experiment.run(name, 1, label, command=command, sketches=True, **options)

    def _trouble(self, side: str, runs: Mapping[str, Ended]) -> Conclusion | None:
        """The conclusion if a run is not comparable."""
        words = self.against if side == "A" else self.check.words or ("python",)
        return why_not_comparable(words, [runs[side]])


def _used(run: Ended) -> set[str]:
    return {line.why for line in run.events("used")}


def _comparison(runs: Mapping[str, Ended]) -> Comparison:
    steps = {name: read(run) for name, run in runs.items()}
    noisy = [own for name, own in steps.items() if name.startswith("noise")]
    a, b = steps["A"], steps.get("reset", steps["B"])
    return Comparison(a, steps.get("eager", a), b, noisy, "reset" in runs)


def read(run: Ended) -> list[Step]:
    """The steps of a run."""
    return read_steps(max(run.traces, key=lambda trace: trace.step_count).lines())


# The answer in words


def conclusion_of(answer: RoundingAnswer, exact: Conclusion) -> Conclusion:
    """The conclusion, in one of three sentences."""
    details = [("bits", exact.sentence)]
    steps = f"{len(answer.judged)} of {counted(answer.total, 'step')} judged"
    if answer.word == "beyond":
        assert answer.first is not None
        finding = f"beyond rounding: first in step {answer.first.step}, in {row_text(answer.first)}"
        details += [("steps before", _same_text(answer))] if answer.judged else []
        meaning = "The difference is larger than rounding explains."
    elif answer.word == "same":
        finding = f"same up to rounding: {steps}, {counted(answer.tensors, 'tensor')}"
        finding += f"; {_worst_text(answer)}"
        meaning = "The difference is no larger than rounding explains."
    else:
        finding = f"cannot tell: {steps}"
        meaning = ""
    details += [("not judged", text) for text in _unjudged(answer)]
    return Conclusion(
        OUTCOMES[answer.word],
        finding,
        "rounding" if answer.word == "beyond" else "",
        meaning,
        details=tuple(details),
        notes=exact.notes,
        step=answer.first.step if answer.first else None,
    )


def _same_text(answer: RoundingAnswer) -> str:
    return f"same up to rounding, {counted(answer.tensors, 'tensor')}; {_worst_text(answer)}"


def _worst_text(answer: RoundingAnswer) -> str:
    times = answer.worst.times if answer.worst else 0.0
    return f"the largest difference is {times:.2g} times the noise of rounding (limit {LIMIT:.0f})"


def _unjudged(answer: RoundingAnswer) -> list[str]:
    texts = [f"step {step}: {row_text(row)}" for step, row in answer.forks.items()]
    lines = [some(texts, 3, "; ")] if texts else []
    if answer.noisy:
        lines.append(f"too noisy: {some(sorted(answer.noisy))}")
    return lines


def row_text(row: Row) -> str:
    """A tensor and its difference, in words."""
    name = row.name.partition("#")[0] if row.kind == "output" else row.name
    texts = {
        "initial": f"the initial value of {name}",
        "output": f"the output of {name or 'the model'}",
        "loss": "the loss",
        "gradient": f"the gradient of {name}",
        "buffer": f"buffer {name}",
        "parameter": f"parameter {name}",
        "hyperparameters": f"the hyperparameters of {name}",
        "batch": f"the batch ({name})",
        "label": "the labels",
        "draw": f"a random draw ({name})",
    }
    if row.kind == "decision":
        return f"{name} decided differently in {row.ratio:.0f} elements"
    difference = row.text or f"{row.times:,.3g} times the noise of rounding (limit {LIMIT:.0f})"
    return f"{texts[row.kind]}: {difference}"


def _judgement(
    conclusion: Conclusion, runs: Mapping[str, Ended], answer: RoundingAnswer | None = None
) -> Judgement:
    make = {"pass": passed, "fail": failed}.get(conclusion.outcome)
    sentence = conclusion.sentence
    verdict = (
        make(CHECK, "A and B", EXPECTED, sentence)
        if make
        else inconclusive(CHECK, "A and B", EXPECTED, sentence, conclusion.hint)
    )
    rows = [{**row, "run": name} for name, row in zip(runs, run_rows(runs.values()), strict=True)]
    notes = tuple(dict.fromkeys([*conclusion.notes, *notes_of(list(runs.values()))]))
    conclusion = replace(conclusion, notes=notes)
    answers = [Answer(ROUNDING, conclusion.outcome, capitalized(conclusion.finding))]
    details = {"rounding": answer and for_programs(answer), "runs": rows}
    return Judgement(conclusion, [verdict], rows, details, answers)


def for_programs(answer: RoundingAnswer) -> dict[str, object]:
    """The answer as an entry of `result.json`."""
    return {
        "answer": answer.word,
        "limit": LIMIT,
        "steps": answer.total,
        "judged": answer.judged,
        "tensors": answer.tensors,
        "largest": answer.worst.times if answer.worst else None,
    }
