"""`check --against`: is B bitwise identical to A, and are its steps as fast?

A comparison needs reproducible commands, so each command is first compared with its own first run.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, ClassVar, Final

from msgspec.structs import replace as changed

from xorbench.answers import FAST, IDENTICAL, Answer
from xorbench.options.option_text import option
from xorbench.options.parse import FUNCTION
from xorbench.programs.command_run import CommandRun, called
from xorbench.programs.command_runs import notes_of, observe, why_not_comparable
from xorbench.programs.conclusion import CheckRuns, Conclusion, RunPair, conclude, verdicts
from xorbench.programs.conditions import PAGES, WAITING, shared_variables
from xorbench.programs.cross_comparison import SIDES, compare_commands, cross_traces
from xorbench.programs.experiment import MAIN, Experiment, Judgement, Row, RunMissing, run_rows
from xorbench.programs.paired_speed import TURNS, Pairs, why_off
from xorbench.programs.pairs import PairSide
from xorbench.programs.questions.rerun import EXPLAINED, CheckRequest, detailed_pairs
from xorbench.programs.request import require_command
from xorbench.programs.run_processes import port_warning
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
from xorbench.verdicts import Verdict, capitalized, worst_outcome

PROCESSES: Final = 8  # runs of each command, and at most as many pairs of processes
SKIP: Final = 3
BITS: Final = "identical bits"
OPTIONS: Final = ("skip", "threshold", "bits", "speed", "turns", "pages", "waiting")
TRY_SWITCHES: Final = (
    "if threads, loader processes, compilation or a seed may be the cause:"
    " xorbench explain --against A -- B tries them"
)

Sides = Mapping[str, list[Ended]]


def title(against: Sequence[str], check: CheckRequest) -> str:
    """Both commands, as typed in a shell."""
    return f"A: {shown_command(against)}, B: {check.command}"


def turns(sides: Sequence[str]) -> Iterator[str]:
    """A B B A A B B A …, so that a slow drift affects both sides equally."""
    return cycle([*sides, *sides[::-1]])


def commands_of(against: Sequence[str], check: CheckRequest) -> dict[str, CommandRun]:
    """The runs of both commands; raises `BadOption`."""
    b = check.command_run()
    words = tuple(against)
    if len(words) == 1 and FUNCTION.fullmatch(words[0]):
        words = called(words[0])
    require_command(option("against"), words, None, b.folder)
    return {"A": replace(b, words=words), MAIN: b}


@dataclass(frozen=True, slots=True)
class TwoCommands:
    """The check of B, and the command A."""

    check: CheckRequest
    against: tuple[str, ...]
    asker: ClassVar[str] = "check"

    @property
    def title(self) -> str:
        """Both commands, as typed in a shell."""
        return title(self.against, self.check)

    def words(self, side: str) -> tuple[str, ...]:
        """The words of a command; for a function only `python`."""
        return self.against if side == "A" else self.check.words or ("python",)

    def commands(self) -> dict[str, CommandRun]:
        """A and B; raises `BadOption`."""
        return commands_of(self.against, self.check)


@dataclass(frozen=True, slots=True)
class AgainstRequest(TwoCommands):
    """The check of B, the command A, and the requested answers."""

    skip: int = SKIP
    threshold: float = THRESHOLD
    bits: bool = True
    speed: bool = True
    turns: str = TURNS[0]
    pages: str = PAGES[0]
    waiting: str = WAITING[0]
    most_pairs: int | None = None  # of processes; None for the number of runs

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], check: CheckRequest) -> "AgainstRequest":
        """The question of an earlier check."""
        return cls(
            check,
            tuple(saved["against"]),
            **{name: saved[name] for name in (*OPTIONS, "most_pairs") if name in saved},
        )

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The runs for the bits, and the runs for the speed."""
        count = self.check.processes
        order = "interleaved A B B A …"
        lines = [f"A: {shown_command(self.against)}", f"B: {self.check.command}"]
        if self.bits:
            lines.append(f"for the bits: {count} runs each, {order}")
        if self.speed:
            more = " more" if self.bits else ""
            off = why_off(self.turns, self.check, commands)
            how = f"{count}{more} runs each, {order}"
            how = how if off else _in_turns(count)
            lines.append(f"for the speed: {how}, recording only step times")
            lines += [f"no turns: {off}"] if off else []
        lines += self.check.place_lines(commands[MAIN])
        lines += dict.fromkeys(filter(None, (port_warning(run.words) for run in commands.values())))
        if self.bits:
            lines.append(
                "if the bits differ: up to three more runs of each, with detailed recording"
            )
        return lines

    def saved(self) -> dict[str, Any]:
        """The command A, and the options of the answer."""
        options = {name: getattr(self, name) for name in OPTIONS}
        return {**options, "against": shown_words(self.against), "most_pairs": self._most_pairs}

    @property
    def _most_pairs(self) -> int:
        return self.most_pairs or self.check.processes

    def answer(self, experiment: Experiment) -> Judgement:
        """Compare the bits, with detailed recording if they differ, and then the speed."""
        bits_runs: Sides = {side: [] for side in SIDES}
        across, bits, speed = CheckRuns(), None, None
        speed_notes, speed_runs = list[str](), list[Ended]()
        if self.bits:
            self._run(experiment, bits_runs, "", "")
            across, bits = self._bits(experiment, bits_runs)
        if self.speed and any(self._trouble(side, runs) for side, runs in bits_runs.items()):
            speed = self._not_timed("the runs are not comparable")
        elif self.speed:
            speed, speed_notes, speed_runs = self._timed(experiment)
        runs = [run for side in SIDES for run in bits_runs[side]] + speed_runs
        notes = dict.fromkeys([*across.notes, *speed_notes, *notes_of(runs)])
        rows = run_rows(runs, [run.folder.name for run in runs])  # each command has a run 1
        return judgement(bits, across, speed, list(notes), rows)

    def _run(
        self, experiment: Experiment, sides: Sides, prefix: str, purpose: str, **options: Any
    ) -> None:
        """Run both, interleaved, until there are enough runs or one is not comparable."""
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
        """The conclusion if the runs of a side are not comparable."""
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
            name, label = f"closer-{pair}/{which}", f"detailed recording, {side}, run {which}"
            return experiment.run(name, which, label, command=side, **options)

        across.files_decide = self.check.files
        first_pair = across.diverged
        if first_pair is not None and step_of(first_pair) < min(s.diverges_at for s in own):
            across.detailed_pairs = detailed_pairs(first_pair, again, cross_traces)
        bits = judge_bits(own[0], own[1], across)
        return across, replace(bits, next_command=self.next_command(own[0], own[1], across, bits))

    def next_command(
        self, a: "SideRuns", b: "SideRuns", across: CheckRuns, bits: Conclusion
    ) -> str:
        """The command that looks for the switch behind a difference; empty if no switch may be."""
        reference = shown_command(self.against)
        if step_of(across.diverged) < min(a.diverges_at, b.diverges_at):
            return self.check.explain(against=reference) if bits.component in EXPLAINED else ""
        first = a if a.diverges_at < math.inf else b
        if conclude(first.own).component not in EXPLAINED:
            return ""
        is_function = len(self.against) == 1 and FUNCTION.fullmatch(reference)
        command = reference if is_function else f"-- {reference}"
        return self.check.explain(command if first is a else "")

    def _timed(self, experiment: Experiment) -> tuple[StepSpeed, list[str], list[Ended]]:
        """The speed turn by turn, or else one after the other; notes; the runs."""
        off, pairs = why_off(self.turns, self.check, experiment.commands), self._pairs()
        if not off:
            pairs.make(experiment)
            off = pairs.why_none
            if pairs.pairs and not off:
                return pairs.speed(), [], pairs.runs
            experiment.note(f"timed one after the other: {off}")
        sides: Sides = {side: [] for side in SIDES}
        self._run(experiment, sides, "clock-", "for the speed, ", level="clock")
        notes = [] if self.turns == "off" or not off else [f"timed one after the other: {off}"]
        return self._speed(sides), notes, [run for side in SIDES for run in sides[side]]

    def _pairs(self) -> Pairs:
        """The pairs of processes; A and B start first in turn."""
        variables = shared_variables(self.pages, self.waiting, os.environ)

        def sides(number: int) -> dict[str, PairSide]:
            order = SIDES if number % 2 else SIDES[::-1]
            return {
                side: PairSide(
                    side,
                    number,
                    f"turns-{side.lower()}-{number}",
                    f"for the speed, {side}, run {number}",
                    variables,
                )
                for side in order
            }

        return Pairs(self._most_pairs, self.threshold, self.skip, sides, self._trouble)

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


def _in_turns(most: int) -> str:
    return f"at most {most} pairs of processes, turn by turn, until the ratio is settled"


# The bits


@dataclass(frozen=True, slots=True)
class SideRuns:
    """The runs of one command, compared with its own first run."""

    name: str
    own: CheckRuns

    @property
    def diverges_at(self) -> float:
        """The first step in which its runs differ; infinite if none does."""
        return -1.0 if self.own.unpaired else step_of(self.own.diverged)

    @property
    def finding(self) -> str:
        """The finding of comparing its runs."""
        return conclude(self.own).finding


def step_of(pair: RunPair | None) -> float:
    """The step in which a pair diverges; infinite for none."""
    return math.inf if pair is None or pair.compared.first is None else pair.compared.first.step


def judge_bits(a: SideRuns, b: SideRuns, across: CheckRuns) -> Conclusion:
    """Whether B is bitwise identical to A; `across` compares the first runs."""
    for side in (a, b):
        if side.own.trouble is not None:
            finding = f"{side.name}: {side.own.trouble.finding}"
            return replace(side.own.trouble, finding=finding)
    if step_of(across.diverged) < min(a.diverges_at, b.diverges_at):
        return _b_differs(across)
    if a.diverges_at < math.inf:
        return _a_not_reproducible(a, b)
    if b.diverges_at < math.inf:
        finding = f"A is reproducible, but B is not: {b.finding}"
        return replace(conclude(b.own), finding=finding)
    return conclude(across)


def _b_differs(across: CheckRuns) -> Conclusion:
    pair = across.diverged
    assert pair is not None
    first = pair.compared.first
    assert first is not None
    unused = {"reruns", *(["generators that differ"] if first.unused else [])}
    conclusion = conclude(across)
    details = [(name, text) for name, text in conclusion.details if name not in unused]
    details += [("hyperparameters that differ", first.values)] if first.values else []
    meaning = (
        "A and B are each reproducible up to this step, so the difference comes from the change to"
        " B."
    )
    hint = "" if first.values else TRY_SWITCHES
    return replace(conclusion, meaning=meaning, hint=hint, details=tuple(details))


def _a_not_reproducible(a: SideRuns, b: SideRuns) -> Conclusion:
    reason = "A is not reproducible, so B cannot be compared with it"
    runs_of_b = "identical" if b.diverges_at == math.inf else b.finding
    hint = "make A reproducible first"
    details = (("runs of B", runs_of_b),)
    return Conclusion("inconclusive", f"{reason}: {a.finding}", hint=hint, details=details)


# Both answers


def judgement(
    bits: Conclusion | None,
    across: CheckRuns,
    speed: StepSpeed | None,
    notes: Sequence[str] = (),
    rows: Sequence[Row] = (),
) -> Judgement:
    """The combined answer to both questions; an answer that was not requested is None."""
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
        answers.append(Answer(IDENTICAL, bits.outcome, capitalized(bits.finding)))
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
    expected = "bitwise identical to A"
    is_b_irreproducible = across.diverged is None and bits.outcome == "fail"
    if across.pairs and bits.outcome != "inconclusive" and not is_b_irreproducible:
        return [
            changed(verdict, check=BITS, expected=expected) for verdict in verdicts(across, bits)
        ]
    return [bits.verdict(BITS, "A and B", expected)]
