"""`check --against`: does another command have the same bits, and is a step of it as fast?"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from xorbench.commands import check as checks
from xorbench.commands.check import CheckOutcome, CheckRequest, Note
from xorbench.commands.processes import terminable
from xorbench.errors import BadOption
from xorbench.judge import against as judge
from xorbench.judge.against import SideRuns, StepSpeed
from xorbench.judge.check import CheckRuns, Conclusion, RunPair, counted
from xorbench.judge.run_processes import paired, unmet
from xorbench.judge.thresholds import THRESHOLD
from xorbench.judge.verdicts import Outcome
from xorbench.measure.command_run import (
    CommandRun,
    Ended,
    called,
    execute,
    read_ended,
    working_copy,
)
from xorbench.observe import trace as traces
from xorbench.observe.trace import TraceFile
from xorbench.plan.parse import FUNCTION

PROCESSES: Final = 5
SKIP: Final = 3
SIDES: Final = ("A", "B")


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
        return f"A: {shlex.join(self.against)}, B: {self.check.command}"


def words_of(text: str) -> tuple[str, ...]:
    """The words of a command given as one text; raises `BadOption`."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise BadOption(f"--against: {str(error).lower()}: {text!r}") from None
    if not words:
        raise BadOption("--against: empty", "check --against 'python old.py' -- python new.py")
    return words


def prepared(request: AgainstRequest) -> dict[str, CommandRun]:
    """The runs of both as they will be made; raises `BadOption`."""
    b = checks.prepared(request.check)
    words = request.against
    if len(words) == 1 and FUNCTION.fullmatch(words[0]):
        words = called(words[0])
    checks.require_command("--against", words, None, b.folder)
    return {"A": replace(b, words=words), "B": b}


def plan(request: AgainstRequest, runs: dict[str, CommandRun]) -> list[str]:
    """What will happen, in lines."""
    count = request.check.processes
    turns = "in turn, A B B A …"
    lines = [f"A: {shlex.join(request.against)}", f"B: {request.check.command}"]
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


def turns(count: int) -> Iterator[tuple[str, int]]:
    """A1 B1 B2 A2 A3 B3 …: what drifts slowly meets both sides alike."""
    for number in range(1, count + 1):
        for side in SIDES if number % 2 else SIDES[::-1]:
            yield side, number


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
        made = _Runs(request, runs, folder, fresh, note)
        made.make()
    return _outcome(folder, _Asked.of(request), made.bits, made.clocks, made.closer)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the answer depends on besides the records."""

    title: str
    words: dict[str, tuple[str, ...]]
    skip: int
    threshold: float
    bits: bool
    speed: bool

    @classmethod
    def of(cls, request: AgainstRequest) -> "_Asked":
        words = {"A": request.against, "B": request.check.words or ("python",)}
        return cls(
            request.command,
            words,
            request.skip,
            request.threshold,
            request.bits,
            request.speed,
        )


Sides = dict[str, list[Ended]]


class _Runs:
    """Makes the runs, as far as they are of use."""

    def __init__(
        self,
        request: AgainstRequest,
        runs: dict[str, CommandRun],
        folder: Path,
        fresh: Any,
        note: Note,
    ) -> None:
        self.request, self.runs, self.folder = request, runs, folder
        self.fresh, self.note = fresh, note
        self.asked = _Asked.of(request)
        self.bits: Sides = {side: [] for side in SIDES}
        self.clocks: Sides = {side: [] for side in SIDES}
        self.closer: list[tuple[Ended, Ended]] = []

    def make(self) -> None:
        """For the bits, closer where they differ, and for the speed."""
        more = {
            "against": list(self.request.against),
            "skip": self.request.skip,
            "threshold": self.request.threshold,
            "bits": self.request.bits,
            "speed": self.request.speed,
        }
        checks.save_request(self.folder, self.request.check, more)
        if self.request.bits:
            self._all(self.bits, "")
            self._look_closer()
        if self.request.speed and not any(_trouble(self.asked, self.bits).values()):
            self._all(self.clocks, "clock-", level="clock")

    def _all(self, sides: Sides, prefix: str, **options: Any) -> None:
        for side, number in turns(self.request.check.processes):
            name = f"{prefix}{side.lower()}-{number}"
            sides[side].append(self._again(side, number, name, **options))
            if _trouble(self.asked, sides)[side] is not None:
                return

    def _again(self, side: str, number: int, name: str, **options: Any) -> Ended:
        of = self.request.check
        asked = {
            "max_bytes": of.max_record,
            "stop_after": of.steps,
            "with_source": of.with_source,
            **options,
        }
        one = execute(self.runs[side], number, self.fresh(), self.folder / name, asked)
        target = self.request.check.target if side == "B" else self.request.against[0]
        refusal = one.records / "target.txt"
        if refusal.exists():
            raise BadOption(f"check: {target}: {refusal.read_text()}")
        kind = "for the speed, " if "level" in options else ""
        kind = "in detail, " if "detail" in options else kind
        self.note(f"{kind}{side}, run {number}: {checks.told(one)}")
        return one

    def _look_closer(self) -> None:
        if any(_trouble(self.asked, self.bits).values()):
            return
        a, b = (_side(self.asked, side, self.bits[side]) for side in SIDES)
        across = first_of_each(self.bits)
        first = across.diverged
        if first is None or judge.step_of(first) >= min(a.diverges_at, b.diverges_at):
            return

        def again(which: int, name: str, **options: Any) -> Ended:
            return self._again(SIDES[which - 1], which, name, **options)

        checks.closer_look(first, again, _beside)
        self.closer = _closer_runs(self.folder)


def _closer_runs(folder: Path) -> list[tuple[Ended, Ended]]:
    places = [folder / f"closer-{number}" for number in range(1, checks.CLOSER_PAIRS + 1)]
    return [
        (read_ended(place / "1"), read_ended(place / "2"))
        for place in places
        if (place / "2" / "ended.json").exists()
    ]


def _beside(one: Ended) -> list[TraceFile]:
    return judge.beside_another(traces.recorded(one.records))


def _trouble(asked: _Asked, sides: Sides) -> dict[str, tuple[Outcome, str, str] | None]:
    """Why there is nothing to compare, of each side that has run."""
    return {
        side: checks.trouble(asked.words[side], ended) if ended else None
        for side, ended in sides.items()
    }


def _side(asked: _Asked, side: str, ended: list[Ended]) -> SideRuns:
    return SideRuns(side, checks.observe(asked.words[side], ended))


def first_of_each(sides: Sides) -> CheckRuns:
    """The first run of B compared with the first of A, process by process."""
    a, b = (sides[side][0] for side in SIDES)
    count = min(map(len, sides.values()))
    observed = CheckRuns(runs=2, who=f"B has the bits of A in {counted(count, 'run')} of each")
    for of in paired(_beside(a), _beside(b)):
        if of.a is None or of.b is None:
            having, lacking = SIDES if of.b is None else SIDES[::-1]
            observed.unpaired.append(f"{having} trains in {of.process}, {lacking} does not")
            continue
        compared, told = judge.compared_across(of.a, of.b)
        observed.pairs.append(RunPair(str(of.process), compared, "B", "A"))
        observed.notes += [told] if told else []
    return observed


def _outcome(
    folder: Path,
    asked: _Asked,
    bits: Sides,
    clocks: Sides,
    closer: Sequence[tuple[Ended, Ended]],
) -> CheckOutcome:
    ended = [one for side in (bits, clocks) for runs in side.values() for one in runs]
    across, found, notes = CheckRuns(), None, checks.notes_of(ended)
    if asked.bits:
        across, found = _bits(asked, bits, closer)
        notes = [*across.notes, *notes]
    speed = _speed(asked, bits, clocks) if asked.speed else None
    answer = judge.against(found, across, speed)
    outcome = checks.concluded(folder, asked.title, ended, across)
    conclusion = judge.joined(answer, list(dict.fromkeys(notes)))
    return replace(outcome, conclusion=conclusion, against=answer)


def _bits(
    asked: _Asked, sides: Sides, closer: Sequence[tuple[Ended, Ended]]
) -> tuple[CheckRuns, Conclusion]:
    across = CheckRuns()
    own = {side: _side(asked, side, ended) for side, ended in sides.items() if ended}
    stopped = [one for one in own.values() if one.own.trouble is not None]
    if stopped or len(own) < len(SIDES):
        first = (stopped or [*own.values()])[0]
        return across, judge.bits(first, first, across)
    across = first_of_each(sides)
    pair = across.diverged
    if pair is not None:
        across.closer = [checks.looked_closer(pair, one, two, _beside) for one, two in closer]
    return across, judge.bits(own["A"], own["B"], across)


def _speed(asked: _Asked, bits: Sides, clocks: Sides) -> StepSpeed:
    from xorbench.judge.step_time import clocked, step_speed  # SciPy is slow to import

    if any(_trouble(asked, bits).values()):
        return StepSpeed("inconclusive", asked.threshold, "there is nothing to time")
    for side, trouble in _trouble(asked, clocks).items():
        if trouble is not None:
            why = f"{side}: {trouble[1]}"
            fails = trouble[0] == "fail"
            return StepSpeed("inconclusive", asked.threshold, why, failed=fails)
    times = {
        side: [clocked(traces.recorded(one.records), asked.skip) for one in ended]
        for side, ended in clocks.items()
    }
    return step_speed(times["A"], times["B"], asked.threshold, asked.skip)


def from_folder(folder: Path, saved: dict[str, Any]) -> CheckOutcome:
    """Judge the records of such a check again."""
    words = {"A": tuple(saved["against"]), "B": tuple(saved["words"]) or ("python",)}
    title = f"A: {shlex.join(saved['against'])}, B: {saved['command']}"
    asked = _Asked(title, words, saved["skip"], saved["threshold"], saved["bits"], saved["speed"])
    bits, clocks = _read(folder, ""), _read(folder, "clock-")
    return _outcome(folder, asked, bits, clocks, _closer_runs(folder))


def _read(folder: Path, prefix: str) -> Sides:
    return {
        side: [
            read_ended(path)
            for path in sorted(
                (one.parent for one in folder.glob(f"{prefix}{side.lower()}-[0-9]*/ended.json")),
                key=lambda path: int(path.name.rpartition("-")[2]),
            )
        ]
        for side in SIDES
    }
