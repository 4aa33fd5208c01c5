"""`check --against`: does another command have the same bits, and is a step of it as fast?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from xorbench.commands import check as checks
from xorbench.commands.check import CheckOutcome, CheckRequest
from xorbench.commands.interrupt import terminable
from xorbench.commands.run_maker import Note, RunMaker
from xorbench.judge import against as judge
from xorbench.judge.against import SideRuns, StepSpeed
from xorbench.judge.check import CheckRuns, Conclusion, RunPair
from xorbench.judge.command_runs import (
    notes_of,
    observe,
    saved_files,
    trouble,
    without_recorder,
)
from xorbench.judge.run_processes import paired, unmet
from xorbench.judge.thresholds import THRESHOLD
from xorbench.judge.verdicts import Outcome, counted
from xorbench.measure.command_run import CommandRun, called, working_copy
from xorbench.observe.ended import Ended, read_runs
from xorbench.observe.sharing import shown_command, shown_words
from xorbench.observe.trace import TraceFile
from xorbench.plan.option_text import option
from xorbench.plan.parse import FUNCTION

PROCESSES: Final = 5
SKIP: Final = 3
SIDES: Final = ("A", "B")
ASKED: Final = ("skip", "threshold", "bits", "speed")  # what the answer depends on


@dataclass(frozen=True, slots=True)
class AgainstRequest:
    """B as it is checked, `processes` of each; A; and what is asked."""

    check: CheckRequest
    against: tuple[str, ...]
    skip: int = SKIP
    threshold: float = THRESHOLD
    bits: bool = True
    speed: bool = True

    @property
    def command(self) -> str:
        """Both, as one would type them."""
        return title(self.against, self.check)

    def words(self, side: str) -> tuple[str, ...]:
        """The words of a side's command; of a function none but Python."""
        return self.against if side == "A" else self.check.words or ("python",)


def title(against: Sequence[str], check: CheckRequest) -> str:
    """Two commands, as one would type them."""
    return f"A: {shown_command(against)}, B: {check.command}"


def prepared(request: AgainstRequest) -> dict[str, CommandRun]:
    """The runs of both as they will be made; raises `BadOption`."""
    b = checks.prepared(request.check)
    words = request.against
    if len(words) == 1 and FUNCTION.fullmatch(words[0]):
        words = called(words[0])
    checks.require_command(option("against"), words, None, b.folder)
    return {"A": replace(b, words=words), "B": b}


def plan(request: AgainstRequest, runs: dict[str, CommandRun]) -> list[str]:
    """What will happen, in lines."""
    count = request.check.processes
    turns = "in turn, A B B A …"
    lines = [f"A: {shown_command(request.against)}", f"B: {request.check.command}"]
    if request.bits:
        lines.append(f"for the bits: runs each {count} times, {turns}")
    if request.speed:
        more = " more" if request.bits else ""
        told = "recording the time of each step alone"
        lines.append(f"for the speed: runs each {count} times{more}, {turns}, {told}")
    lines += checks.place_lines(request.check, runs["B"])
    lines += dict.fromkeys(filter(None, (unmet(run.words) for run in runs.values())))
    if request.bits:
        lines.append("if the bits differ, up to three more runs of each, in detail")
    return lines


def turns(sides: Sequence[str]) -> Iterator[str]:
    """A B B A A B B A …: what drifts slowly meets both sides alike; one side has every turn."""
    return cycle([*sides, *sides[::-1]])


def check(request: AgainstRequest, note: Note) -> CheckOutcome:
    """Run both, in turn, and answer. Raises `BadOption`."""
    runs = prepared(request)
    for line in plan(request, runs):
        note(line)
    with (
        checks.records_folder(request.check) as folder,
        terminable(),
        working_copy(runs["B"]) as fresh,
    ):
        maker = checks.maker("check", request.check, folder, fresh, note)
        made = _Runs(request, runs, folder, maker)
        made.make()
    return _outcome(folder, request, made.bits, made.clocks)


Sides = dict[str, list[Ended]]


class _Runs:
    """Makes the runs, as far as they are of use."""

    def __init__(
        self, request: AgainstRequest, runs: dict[str, CommandRun], folder: Path, maker: RunMaker
    ) -> None:
        self.request, self.runs, self.folder, self.maker = request, runs, folder, maker
        self.bits: Sides = {side: [] for side in SIDES}
        self.clocks: Sides = {side: [] for side in SIDES}

    def make(self) -> None:
        """For the bits, closer where they differ, and for the speed."""
        more = {name: getattr(self.request, name) for name in ASKED}
        more["against"] = shown_words(self.request.against)
        checks.save_request(self.folder, self.request.check, more)
        if self.request.bits:
            self._all(self.bits, "", "")
            self._look_closer()
        if self.request.speed and not any(_trouble(self.request, self.bits).values()):
            self._all(self.clocks, "clock-", "for the speed, ", level="clock")

    def _all(self, sides: Sides, prefix: str, said: str, **options: Any) -> None:
        for side in islice(turns(SIDES), 2 * self.request.check.processes):
            number = len(sides[side]) + 1
            name = f"{prefix}{side.lower()}-{number}"
            one = self._make(side, number, name, f"{said}{side}, run {number}", **options)
            sides[side].append(one)
            if _trouble(self.request, sides)[side] is not None:
                return

    def _make(self, side: str, number: int, name: str, said: str, **options: Any) -> Ended:
        return self.maker.run(self.runs[side], number, name, said, **options)

    def _look_closer(self) -> None:
        if any(_trouble(self.request, self.bits).values()):
            return
        a, b = (_side(self.request, side, self.bits[side]) for side in SIDES)
        across = first_of_each(self.bits)
        first = across.diverged
        if first is None or judge.step_of(first) >= min(a.diverges_at, b.diverges_at):
            return

        def again(which: int, name: str, **options: Any) -> Ended:
            side = SIDES[which - 1]
            return self._make(side, which, name, f"in detail, {side}, run {which}", **options)

        checks.closer_look(first, again, _beside)


def _beside(one: Ended) -> list[TraceFile]:
    return judge.beside_another(one.traces)


def _trouble(request: AgainstRequest, sides: Sides) -> dict[str, tuple[Outcome, str, str] | None]:
    """Why there is nothing to compare, of each side that has run."""
    return {
        side: trouble(request.words(side), ended) if ended else None
        for side, ended in sides.items()
    }


def _side(request: AgainstRequest, side: str, ended: list[Ended]) -> SideRuns:
    return SideRuns(side, observe(request.words(side), ended))


def first_of_each(sides: Sides) -> CheckRuns:
    """The first run of B compared with the first of A, process by process."""
    a, b = (sides[side][0] for side in SIDES)
    count = min(map(len, sides.values()))
    observed = CheckRuns(runs=2, who=f"B has the bits of A in {counted(count, 'run')} of each")
    observed.files, observed.commands = saved_files([a, b]), without_recorder([a, b])
    for of in paired(_beside(a), _beside(b)):
        if of.a is None or of.b is None:
            having, lacking = SIDES if of.b is None else SIDES[::-1]
            observed.unpaired.append(f"{having} trains in {of.process}, {lacking} does not")
            continue
        compared, told = judge.compared_across(of.a, of.b)
        pair = RunPair(str(of.process), compared, "B", "A", ended_by_parent=of.ended_by_parent)
        observed.pairs.append(pair)
        observed.notes += [told] if told else []
    return observed


def _outcome(folder: Path, request: AgainstRequest, bits: Sides, clocks: Sides) -> CheckOutcome:
    ended = [one for side in (bits, clocks) for runs in side.values() for one in runs]
    across, found, notes = CheckRuns(), None, notes_of(ended)
    if request.bits:
        across, found = _bits(folder, request, bits)
        notes = [*across.notes, *notes]
    speed = _speed(request, bits, clocks) if request.speed else None
    answer = judge.against(found, across, speed)
    outcome = checks.concluded(folder, request.command, ended, across)
    conclusion = judge.joined(answer, list(dict.fromkeys(notes)))
    return replace(outcome, conclusion=conclusion, verdicts=answer.verdicts, against=answer)


def _bits(folder: Path, request: AgainstRequest, sides: Sides) -> tuple[CheckRuns, Conclusion]:
    across = CheckRuns()
    own = {side: _side(request, side, ended) for side, ended in sides.items() if ended}
    stopped = [one for one in own.values() if one.own.trouble is not None]
    if stopped or len(own) < len(SIDES):
        first = (stopped or [*own.values()])[0]
        return across, judge.bits(first, first, across)
    across = first_of_each(sides)
    if across.diverged is not None:
        across.closer = checks.closer_again(folder, across.diverged, _beside)
    return across, judge.bits(own["A"], own["B"], across)


def _speed(request: AgainstRequest, bits: Sides, clocks: Sides) -> StepSpeed:
    from xorbench.judge.step_time import clocked, step_speed  # SciPy is slow to import

    if any(_trouble(request, bits).values()):
        return StepSpeed("inconclusive", request.threshold, "there is nothing to time")
    for side, found in _trouble(request, clocks).items():
        if found is not None:
            why, fails = f"{side}: {found[1]}", found[0] == "fail"
            return StepSpeed("inconclusive", request.threshold, why, failed=fails)
    times = {
        side: [clocked(one.traces, request.skip) for one in ended] for side, ended in clocks.items()
    }
    return step_speed(times["A"], times["B"], request.threshold, request.skip)


def judged_again(folder: Path, saved: dict[str, Any]) -> CheckOutcome:
    """Judge the records of such a check again."""
    asked = {name: saved[name] for name in ASKED}
    request = AgainstRequest(checks.saved_request(saved), tuple(saved["against"]), **asked)
    bits, clocks = (
        {side: read_runs(folder, f"{prefix}{side.lower()}-") for side in SIDES}
        for prefix in ("", "clock-")
    )
    return _outcome(folder, request, bits, clocks)
