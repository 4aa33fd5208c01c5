"""`check --against`: does B have the bits of A, and is a step of it as fast?

A command that is not reproducible says nothing of the other, so each is compared with its own first
run before the two are compared.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, ClassVar, Final

from msgspec.structs import replace as changed

from xorbench.answers import FAST, SAME, Answer
from xorbench.options.option_text import option
from xorbench.options.parse import FUNCTION
from xorbench.programs.command_run import CommandRun, called
from xorbench.programs.command_runs import notes_of, observe, why_not_comparable
from xorbench.programs.conclusion import CheckRuns, Conclusion, RunPair, conclude, verdicts
from xorbench.programs.cross_comparison import SIDES, compare_commands, cross_traces
from xorbench.programs.experiment import MAIN, Experiment, Judgement, Row, RunMissing, run_rows
from xorbench.programs.questions.rerun import CheckRequest, detailed_pairs
from xorbench.programs.request import require_command
from xorbench.programs.run_processes import unmet
from xorbench.programs.step_time import (
    MORE,
    StepSpeed,
    clocked,
    speed_details,
    speed_verdict,
    step_speed,
)
from xorbench.records.ended import Ended
from xorbench.records.redaction import shown_command, shown_words
from xorbench.stats.thresholds import THRESHOLD
from xorbench.verdicts import Verdict, capitalized, failed, inconclusive, worst_outcome

PROCESSES: Final = 5
SKIP: Final = 3
BITS: Final = "same bits"
OPTIONS: Final = ("skip", "threshold", "bits", "speed")  # what the answer depends on
MAY_BE_A_SWITCH: Final = (
    "if threads, loader processes, compilation or a seed may be behind it:"
    " xorbench explain --against A -- B tries them"
)

Sides = Mapping[str, list[Ended]]


def title(against: Sequence[str], check: CheckRequest) -> str:
    """Two commands, as one would type them."""
    return f"A: {shown_command(against)}, B: {check.command}"


def turns(sides: Sequence[str]) -> Iterator[str]:
    """A B B A A B B A …: a slow drift meets both sides equally; a single side has every turn."""
    return cycle([*sides, *sides[::-1]])


def commands_of(against: Sequence[str], check: CheckRequest) -> dict[str, CommandRun]:
    """The runs of both as they will be made; raises `BadOption`."""
    b = check.command_run()
    words = tuple(against)
    if len(words) == 1 and FUNCTION.fullmatch(words[0]):
        words = called(words[0])
    require_command(option("against"), words, None, b.folder)
    return {"A": replace(b, words=words), MAIN: b}


@dataclass(frozen=True, slots=True)
class AgainstRequest:
    """B as it is checked, `processes` of each; A; and which answers are wanted."""

    check: CheckRequest
    against: tuple[str, ...]
    skip: int = SKIP
    threshold: float = THRESHOLD
    bits: bool = True
    speed: bool = True
    asker: ClassVar[str] = "check"

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "AgainstRequest":
        """The question of an earlier check."""
        return cls(check, tuple(saved["against"]), **{name: saved[name] for name in OPTIONS})

    @property
    def title(self) -> str:
        """Both commands, as one would type them."""
        return title(self.against, self.check)

    def words(self, side: str) -> tuple[str, ...]:
        """The words of a side's command; for a function only Python."""
        return self.against if side == "A" else self.check.words or ("python",)

    def commands(self) -> dict[str, CommandRun]:
        """A and B; raises `BadOption`."""
        return commands_of(self.against, self.check)

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The runs for the bits, and the runs for the speed."""
        count = self.check.processes
        order = "in turn, A B B A …"
        lines = [f"A: {shown_command(self.against)}", f"B: {self.check.command}"]
        if self.bits:
            lines.append(f"for the bits: runs each {count} times, {order}")
        if self.speed:
            more = " more" if self.bits else ""
            clock = "recording the time of each step alone"
            lines.append(f"for the speed: runs each {count} times{more}, {order}, {clock}")
        lines += self.check.place_lines(commands[MAIN])
        lines += dict.fromkeys(filter(None, (unmet(run.words) for run in commands.values())))
        if self.bits:
            lines.append("if the bits differ, up to three more runs of each, in detail")
        return lines

    def saved(self) -> dict[str, Any]:
        """A, and the options of the answer."""
        options = {name: getattr(self, name) for name in OPTIONS}
        return {**options, "against": shown_words(self.against)}

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare the bits, with detailed recording where they differ, and then the speed."""
        bits_runs: Sides = {side: [] for side in SIDES}
        clock_runs: Sides = {side: [] for side in SIDES}
        across, bits, speed = CheckRuns(), None, None
        if self.bits:
            self._run(experiment, bits_runs, "", "")
            across, bits = self._bits(experiment, bits_runs)
        if self.speed and any(self._trouble(side, runs) for side, runs in bits_runs.items()):
            speed = self._not_timed("there is nothing to time")
        elif self.speed:
            self._run(experiment, clock_runs, "clock-", "for the speed, ", level="clock")
            speed = self._speed(clock_runs)
        runs = [run for sides in (bits_runs, clock_runs) for side in SIDES for run in sides[side]]
        notes = dict.fromkeys([*across.notes, *notes_of(runs)])
        rows = [
            {**row, "run": run.folder.name}  # each command has a run 1
            for row, run in zip(run_rows(runs), runs, strict=True)
        ]
        return judgement(bits, across, speed, list(notes), rows)

    def _run(
        self, experiment: Experiment, sides: Sides, prefix: str, purpose: str, **options: Any
    ) -> None:
        """Run both in turn until there are enough runs, or one has nothing to compare."""
        try:
            for side in islice(turns(SIDES), 2 * self.check.processes):
                number = len(sides[side]) + 1
                name, label = f"{prefix}{side.lower()}-{number}", f"{purpose}{side}, run {number}"
                sides[side].append(experiment.run(name, number, label, command=side, **options))
                if self._trouble(side, sides[side]) is not None:
                    return
        except RunMissing:
            pass

    def _trouble(self, side: str, runs: Sequence[Ended]) -> Conclusion | None:
        """Why the runs of a side cannot be compared; None without a run."""
        return why_not_comparable(self.words(side), runs) if runs else None

    def _bits(self, experiment: Experiment, sides: Sides) -> tuple[CheckRuns, Conclusion]:
        own = [
            SideRuns(side, observe(self.words(side), runs)) for side, runs in sides.items() if runs
        ]
        stopped = [side for side in own if side.own.trouble is not None]
        if stopped or len(own) < len(SIDES):
            first = (stopped or own)[0]
            return CheckRuns(), judge_bits(first, first, CheckRuns())
        across = compare_commands(sides["A"][0], sides["B"][0], min(map(len, sides.values())))

        def again(which: int, pair: int, **options: Any) -> Ended:
            side = SIDES[which - 1]
            name, label = f"closer-{pair}/{which}", f"in detail, {side}, run {which}"
            return experiment.run(name, which, label, command=side, **options)

        first_pair = across.diverged
        if first_pair is not None and step_of(first_pair) < min(s.diverges_at for s in own):
            across.detailed_pairs = detailed_pairs(first_pair, again, cross_traces)
        return across, judge_bits(own[0], own[1], across)

    def _speed(self, sides: Sides) -> StepSpeed:
        for side, runs in sides.items():
            trouble = self._trouble(side, runs)
            if trouble is not None:
                why = f"{side}: {trouble.finding}"
                return self._not_timed(why, failed=trouble.outcome == "fail")
        a, b = ([clocked(run.traces, self.skip) for run in sides[side]] for side in SIDES)
        return step_speed(a, b, self.threshold, self.skip)

    def _not_timed(self, why: str, *, failed: bool = False) -> StepSpeed:
        return StepSpeed("inconclusive", self.threshold, why, failed=failed)


# The bits


@dataclass(frozen=True, slots=True)
class SideRuns:
    """The runs of one command, compared with its own first run."""

    name: str
    own: CheckRuns

    @property
    def diverges_at(self) -> float:
        """The first step in which its runs differ; infinite where none does."""
        return -1.0 if self.own.unpaired else step_of(self.own.diverged)

    @property
    def finding(self) -> str:
        """What comparing its runs has found."""
        return conclude(self.own).finding


def step_of(pair: RunPair | None) -> float:
    """The step in which a pair diverges; infinite for none."""
    return math.inf if pair is None or pair.compared.first is None else pair.compared.first.step


def judge_bits(a: SideRuns, b: SideRuns, across: CheckRuns) -> Conclusion:
    """Whether B has the bits of A; `across` compares the first run of each."""
    for side in (a, b):
        if side.own.trouble is not None:
            finding = f"{side.name}: {side.own.trouble.finding}"
            return replace(side.own.trouble, finding=finding)
    if step_of(across.diverged) < min(a.diverges_at, b.diverges_at):
        return _b_differs(across)
    if a.diverges_at < math.inf:
        return _a_not_reproducible(a, b)
    if b.diverges_at < math.inf:
        finding = f"A repeats its own bits and B does not: {b.finding}"
        return replace(conclude(b.own), finding=finding)
    return conclude(across)


def _b_differs(across: CheckRuns) -> Conclusion:
    pair = across.diverged
    assert pair is not None
    first = pair.compared.first
    assert first is not None
    unused = {"run again", *(["generators that differ"] if first.undrawn else [])}
    conclusion = conclude(across)
    details = [(name, text) for name, text in conclusion.details if name not in unused]
    details += [("hyperparameters that differ", first.values)] if first.values else []
    meaning = "A and B each repeat their own bits up to there, so it is B that moves them."
    hint = "" if first.values else MAY_BE_A_SWITCH
    return replace(conclusion, meaning=meaning, hint=hint, details=tuple(details))


def _a_not_reproducible(a: SideRuns, b: SideRuns) -> Conclusion:
    reason = "A is not the same when it is run again, so B cannot be compared with it"
    own = "the same in its runs" if b.diverges_at == math.inf else b.finding
    hint = "make A repeat its own bits first: xorbench explain -- A finds the switch"
    return Conclusion(
        "inconclusive", f"{reason}: {a.finding}", hint=hint, details=(("B alone", own),)
    )


# Both answers


def judgement(
    bits: Conclusion | None,
    across: CheckRuns,
    speed: StepSpeed | None,
    notes: Sequence[str] = (),
    rows: Sequence[Row] = (),
) -> Judgement:
    """The answers to both questions as one; an answer that is not wanted is None."""
    given = [answer for answer in (bits, speed) if answer is not None]
    base = bits or Conclusion("pass", "")
    hint = base.hint
    if not hint and speed is not None and speed.outcome == "inconclusive":
        hint = MORE
    conclusion = replace(
        base,
        outcome=worst_outcome(answer.outcome for answer in given),
        finding="; ".join(
            [*([bits.finding] if bits else []), *([speed.sentence] if speed else [])]
        ),
        hint=hint,
        details=(*base.details, *(speed_details(speed) if speed else ())),
        notes=tuple(notes),
    )
    answers, judged, details = [], list[Verdict](), dict[str, object](bits=None, speed=None)
    if bits is not None:
        answers.append(Answer(SAME, bits.outcome, capitalized(bits.finding)))
        judged += _bits_verdicts(bits, across)
        details["bits"] = {"outcome": bits.outcome, "sentence": bits.sentence}
    if speed is not None:
        answers.append(Answer(FAST, speed.outcome, capitalized(speed.sentence)))
        judged.append(speed_verdict(speed))
        sentence = {"outcome": speed.outcome, "sentence": speed.sentence}
        details["speed"] = {**sentence, **speed.for_programs()}
    details["runs"] = rows
    return Judgement(conclusion, judged, rows, details, answers, speed=speed)


def _bits_verdicts(bits: Conclusion, across: CheckRuns) -> list[Verdict]:
    expected = "the bits of A"
    own = across.diverged is None and bits.outcome == "fail"
    if across.pairs and bits.outcome != "inconclusive" and not own:
        return [
            changed(verdict, check=BITS, expected=expected) for verdict in verdicts(across, bits)
        ]
    make = failed if bits.outcome == "fail" else inconclusive
    return [make(BITS, "A and B", expected, bits.sentence, bits.hint)]
