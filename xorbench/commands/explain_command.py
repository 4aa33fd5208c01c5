"""`explain` of a training of the user's own: which switch makes it reproducible, at what cost?"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from xorbench.commands import against
from xorbench.commands import check as checks
from xorbench.commands.against import SIDES, SKIP
from xorbench.commands.check import CheckRequest
from xorbench.commands.interrupt import terminable
from xorbench.commands.run_maker import Note, RunMaker
from xorbench.judge import cure as judge
from xorbench.judge.against import StepSpeed
from xorbench.judge.check import CheckRuns, Conclusion, place_said
from xorbench.judge.check import conclude as concluded
from xorbench.judge.command_runs import observe, step_count, trouble
from xorbench.judge.cure import CureSearch, SwitchTried, pairs_needed
from xorbench.judge.explain import Exhausted, Gives, search
from xorbench.judge.thresholds import THRESHOLD
from xorbench.judge.verdicts import OUTCOME_CODES, counted
from xorbench.measure.command_run import CommandRun, working_copy
from xorbench.observe import trace as traces
from xorbench.observe.ended import Ended
from xorbench.plan.switches import (
    TRAINING_SWITCHES,
    SeenFacts,
    TrainingSwitch,
    variable_switch,
)

MAX_RUNS: Final = 100
LEAST_RUNS: Final = 4  # before p is known
MOST_RUNS: Final = 10  # where some pairs are equal


@dataclass(frozen=True, slots=True)
class CureRequest:
    """The command as it is checked, another one to have equal bits with, and the limits.

    `check.processes` is how often it is run, at most, to see how often pairs diverge.
    """

    check: CheckRequest
    against: tuple[str, ...] | None = None
    variables: tuple[tuple[str, str], ...] = ()
    max_runs: int = MAX_RUNS
    cost: bool = True
    skip: int = SKIP

    @property
    def command(self) -> str:
        """What is explained, as one would type it."""
        if self.against is None:
            return self.check.command
        return against.title(self.against, self.check)

    @property
    def switches(self) -> list[TrainingSwitch]:
        """Every switch, and each variable that was given."""
        given = [variable_switch(name, value) for name, value in self.variables]
        return [*TRAINING_SWITCHES, *given]


@dataclass(frozen=True, slots=True)
class SwitchedRun:
    """A run of a search: of which side, with which switches, and whether for the cost alone."""

    side: str
    switches: tuple[str, ...]
    is_timed: bool
    ended: Ended


@dataclass(frozen=True, slots=True)
class CureOutcome:
    """Where the files are, the runs, what was found, and the answer."""

    id: str
    folder: Path
    command: str
    runs: list[SwitchedRun]
    search: CureSearch
    conclusion: Conclusion
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 nothing diverges, 1 something does, 3 not enough evidence."""
        return OUTCOME_CODES[self.conclusion.outcome]


def prepared(request: CureRequest) -> dict[str, CommandRun]:
    """The commands as they will be run; raises `BadOption`."""
    if request.against is None:
        return {"B": checks.prepared(request.check)}
    return against.prepared(against.AgainstRequest(request.check, request.against))


def plan(request: CureRequest, runs: Mapping[str, CommandRun]) -> list[str]:
    """What will happen, in lines."""
    names = ", ".join(one.name for one in request.switches)
    lines = [f"explains: {request.command}"]
    lines.append(
        f"runs it {LEAST_RUNS} to {request.check.processes} times, to see how often pairs diverge"
    )
    lines.append(f"then with the switches that apply, all and ever fewer: {names}")
    if request.cost:
        lines.append(f"then {against.PROCESSES} times with the cure and without, for its cost")
    lines.append(f"at most {request.max_runs} runs in all (--max-runs)")
    return lines + checks.place_lines(request.check, runs["B"])


def explain(request: CureRequest, note: Note) -> CureOutcome:
    """Search by real runs. Raises `BadOption`."""
    runs = prepared(request)
    for line in plan(request, runs):
        note(line)
    with (
        checks.records_folder(request.check) as folder,
        terminable(),
        working_copy(runs["B"]) as fresh,
    ):
        maker = checks.maker("explain", request.check, folder, fresh, note)
        made = _CureRuns(request, runs, maker)
        found, answer = _explained(request, made, note)
    found.runs = len(made.runs)
    answer = answer or judge.conclude(found)
    machine = checks.machine_of(made.runs[0].ended)
    return CureOutcome(folder.name, folder, request.command, made.runs, found, answer, machine)


class _CureRuns:
    """Makes runs of each side in turn, with switches, and keeps them."""

    def __init__(
        self, request: CureRequest, prepared: Mapping[str, CommandRun], maker: RunMaker
    ) -> None:
        self.request, self.prepared, self.maker = request, prepared, maker
        self.known = {one.name: one for one in request.switches}
        self.runs: list[SwitchedRun] = []

    @property
    def sides(self) -> list[str]:
        """The sides in the order of their turns."""
        return list(self.prepared)

    @property
    def left(self) -> int:
        """How many runs may still be made."""
        return self.request.max_runs - len(self.runs)

    def run(self, side: str, names: Sequence[str], **options: Any) -> Ended:
        """One run with these switches; raises `Exhausted` where no more may be made."""
        if not self.left:
            raise Exhausted
        number, is_timed = len(self.runs) + 1, "level" in options
        recorded = [name for name in names if self.known[name].recorded]
        variables = {k: v for name in names for k, v in self.known[name].variables.items()}
        which = f"{side}, " if len(self.prepared) > 1 else ""
        kind = "for the cost, " if is_timed else ""
        with_ = f" with {', '.join(names)}" if names else ""
        one = self.maker.run(
            self.prepared[side],
            number,
            f"run-{number}",
            f"{kind}{which}run {number}{with_}",
            variables=variables,
            **{"switches": recorded, "notice": not names, **options},
        )
        self.runs.append(SwitchedRun(side, tuple(names), is_timed, one))
        return one

    def compared(self, a: tuple[str, Ended], b: tuple[str, Ended]) -> CheckRuns:
        """Two runs compared: of one command as `check` does, of two as `check --against` does."""
        if a[0] == b[0]:
            return observe(self.prepared[a[0]].words, [a[1], b[1]])
        first, second = (a, b) if a[0] == "A" else (b, a)
        observed = CheckRuns(runs=2)
        for side, one in (first, second):
            observed.trouble = observed.trouble or trouble(self.prepared[side].words, [one])
        if observed.trouble is not None:
            return observed
        return against.first_of_each({"A": [first[1]], "B": [second[1]]})


def _explained(
    request: CureRequest, made: _CureRuns, note: Note
) -> tuple[CureSearch, Conclusion | None]:
    found = CureSearch(sides=len(made.prepared))
    plain: list[tuple[str, Ended]] = []
    try:
        answer = _baseline(request, made, found, plain)
    except Exhausted:
        answer = None
        found.exhausted = True
    if answer is not None or not found.differ or found.exhausted:
        return found, answer
    facts = seen(plain, os.environ)
    found.switches = [_tried(one, facts) for one in request.switches]
    names = [one.name for one in found.switches if not one.left_out]
    _announce(found, names, made, note)
    asked = _Ask(made, found, pairs_needed(found.share), steps_of([one for _, one in plain]))
    ask = cache(asked)  # no set is tried twice
    try:
        if ask(frozenset(names)) == "nothing":
            names = _working(made, found, names)
        found.found = search(names, ask)
    except Exhausted:
        pass
    found.exhausted = found.found is None or not found.found.minimal
    found.under_all = asked.under_all
    if found.cure and request.cost:
        found.cost = _cost(request, made, found.cure)
    return found, None


def _tried(one: TrainingSwitch, facts: SeenFacts) -> SwitchTried:
    return SwitchTried(one.name, one.about, one.write, one.idle(facts))


def _announce(found: CureSearch, names: Sequence[str], made: _CureRuns, note: Note) -> None:
    needed = pairs_needed(found.share)
    note(
        f"{found.differ} of {found.pairs} pairs diverge (p = {found.share:.2f}): a set of switches"
        f" counts as a cure after {counted(needed, 'equal pair')}, {2 * needed} runs"
    )
    note(f"{len(names)} switches apply: {', '.join(names)}; at most {made.left} runs more")


def _baseline(
    request: CureRequest, made: _CureRuns, found: CureSearch, plain: list[tuple[str, Ended]]
) -> Conclusion | None:
    """Run without any switch until the share of pairs that diverge is known; else say why not."""
    kinds: dict[str, list[int]] = {side: [] for side in made.sides}
    examples: list[tuple[str, Ended]] = []
    equal: CheckRuns | None = None
    for side in islice(against.turns(made.sides), request.check.processes):
        one = (side, made.run(side, ()))
        kind = None
        for index, example in enumerate(examples):
            observed = made.compared(example, one)
            answer = concluded(observed)
            if observed.trouble is not None or answer.outcome == "inconclusive":
                return answer
            if answer.outcome == "pass":
                kind, equal = index, observed
                break
            found.first = found.first or _first(observed, answer)
        if not examples:
            why_not = trouble(made.prepared[side].words, [one[1]])
            if why_not is not None:
                return Conclusion(why_not[0], why_not[1], hint=why_not[2])
        if kind is None:
            kind = len(examples)
            examples.append(one)
        kinds[side].append(kind)
        plain.append(one)
        found.differ, found.pairs = judge.share_of_pairs(kinds)
        if len(plain) >= LEAST_RUNS and found.differ == found.pairs:
            break
    if not found.differ and equal is not None:
        equal.who = f"the same in {len(plain)} runs"
        found.same = concluded(equal).sentence
    return None


def _first(observed: CheckRuns, answer: Conclusion) -> str:
    """Where two runs differ, without which runs they are."""
    pair = observed.diverged
    first = pair.compared.first if pair else None
    if pair is None or first is None or first.how == "steps":
        return answer.finding
    return place_said(observed, pair, first)


def seen(plain: Sequence[tuple[str, Ended]], variables: Mapping[str, str]) -> SeenFacts:
    """What the runs without any switch show of the program."""
    generators: set[str] = set()
    used: set[str] = set()
    for _, one in plain[:2]:
        used |= {line.why for line in traces.presence(one.records) if line.event == "used"}
        for trace in one.traces:
            generators |= trace.head.generators.keys()
            for step in trace.steps():
                generators |= {e.identity for e in step.events if e.kind == "generator"}
    return SeenFacts(dict(variables), frozenset(generators), frozenset(used))


def steps_of(runs: Sequence[Ended]) -> tuple[int, int]:
    """The fewest and the most steps that a process of these runs has made."""
    counts = [step_count(trace) for one in runs for trace in one.traces]
    return min(counts, default=0), max(counts, default=0)


def _working(made: _CureRuns, found: CureSearch, names: Sequence[str]) -> list[str]:
    """The switches with which the command does not fail, each tried alone."""
    side = made.sides[-1]
    why: dict[str, str] = {}
    for name in names:
        one = made.run(side, [name])
        unset = [line.why for line in traces.presence(one.records) if line.event == "failed"]
        if unset:
            why[name] = f"it cannot be set here: {unset[0]}"
        elif trouble(made.prepared[side].words, [one]) is not None:
            why[name] = "the command fails with it"
    found.switches = [replace(s, left_out=why.get(s.name, s.left_out)) for s in found.switches]
    return [name for name in names if name not in why]


class _Ask:
    """Whether a set of switches makes all runs equal: "B" if so, "A" if two of them differ."""

    def __init__(
        self, made: _CureRuns, found: CureSearch, needed: int, steps: tuple[int, int]
    ) -> None:
        self.made, self.found, self.needed, self.steps = made, found, needed, steps
        self.under_all = ""

    def __call__(self, names: frozenset[str]) -> Gives:
        """Make runs until two differ, or there are enough equal pairs."""
        ordered = [name for name in self.made.known if name in names]
        first: tuple[str, Ended] | None = None
        for side in islice(against.turns(self.made.sides), 2 * self.needed):
            one = (side, self.made.run(side, ordered))
            if first is None:
                first = one
                continue
            observed = self.made.compared(first, one)
            answer = concluded(observed)
            if observed.trouble is not None or answer.outcome == "inconclusive":
                return "nothing"
            if any(line.event == "failed" for line in traces.presence(one[1].records)):
                return "nothing"
            if answer.outcome == "fail":
                self.under_all = self.under_all or _first(observed, answer)
                return "A"
        assert first is not None
        self._compare_steps(ordered, first[1])
        return "B"

    def _compare_steps(self, names: Sequence[str], one: Ended) -> None:
        """Tell where a training that repeats itself is another one, by its steps."""
        fewest, most = steps_of([one])
        if not (self.steps[0] <= fewest and most <= self.steps[1]):
            told = f"with {', '.join(names)} it makes {most} steps, without {self.steps[1]}"
            self.found.notes.append(told)


def _cost(request: CureRequest, made: _CureRuns, cure: Sequence[str]) -> StepSpeed:
    """The time of a step with the cure against without, in turn."""
    from xorbench.judge.step_time import clocked, step_speed  # SciPy is slow to import

    side, count = made.sides[-1], against.PROCESSES
    if made.left < 2 * count:
        why = f"{2 * count} runs are beyond --max-runs"
        return StepSpeed("inconclusive", THRESHOLD, why)
    times: dict[str, list[Any]] = {"A": [], "B": []}
    for which in islice(against.turns(SIDES), 2 * count):
        one = made.run(side, cure if which == "B" else (), level="clock", notice=False)
        times[which].append(clocked(one.traces, request.skip))
    return step_speed(times["A"], times["B"], THRESHOLD, request.skip)
