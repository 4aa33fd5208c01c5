"""`explain` of a user's training: the switches that make it reproducible, and their cost.

If pairs of runs diverge with probability p, n pairs are identical by chance with probability
(1 - p)^n. A set of switches is accepted as a fix when this probability is at most 1%.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import combinations, islice
from typing import Any, ClassVar, Final

from xorbench.options.program_options import FIRST_RUNS
from xorbench.programs.command_run import CommandRun
from xorbench.programs.command_runs import observe, why_not_comparable
from xorbench.programs.conclusion import CHECK, CheckRuns, Conclusion, place_text
from xorbench.programs.conclusion import conclude as conclude_runs
from xorbench.programs.conditions import PAGES, WAITING, shared_variables
from xorbench.programs.cross_comparison import SIDES, compare_commands
from xorbench.programs.experiment import MAIN, Experiment, Judgement, Row, run_rows
from xorbench.programs.minimal_set import Exhausted, Explanation, Gives, search
from xorbench.programs.paired_speed import Pairs, why_off
from xorbench.programs.pairs import PairSide
from xorbench.programs.questions import against
from xorbench.programs.questions.against import BITS, SKIP, turns
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.step_time import ClockedRun, StepSpeed, clocked, step_speed
from xorbench.programs.switches import (
    TRAINING_SWITCHES,
    ObservedProgram,
    TrainingSwitch,
    variable_switch,
)
from xorbench.records.ended import Ended
from xorbench.stats.thresholds import THRESHOLD
from xorbench.verdicts import Verdict, counted

MAX_RUNS: Final = 100
COST_RUNS: Final = 5  # with the fix and without, if they do not take turns
ERROR: Final = 0.01  # the probability of accepting a set that is not a fix
MAX_P: Final = 0.9  # the largest p that is assumed, because few runs cannot show a larger one

SideRun = tuple[str, Ended]  # the side and its run


@dataclass(frozen=True, slots=True)
class FixRequest:
    """The check of the command, the command that it must be identical to, and the limits.

    `check.processes` is the largest number of runs to estimate how often pairs diverge.
    """

    check: CheckRequest
    against: tuple[str, ...] | None = None
    variables: tuple[tuple[str, str], ...] = ()
    max_runs: int = MAX_RUNS
    cost: bool = True
    skip: int = SKIP
    asker: ClassVar[str] = "explain"

    @property
    def title(self) -> str:
        """The explained commands, as typed in a shell."""
        if self.against is None:
            return self.check.command
        return against.title(self.against, self.check)

    @property
    def switches(self) -> list[TrainingSwitch]:
        """Every switch, and a switch per given variable."""
        given = [variable_switch(name, value) for name, value in self.variables]
        return [*TRAINING_SWITCHES, *given]

    def commands(self) -> dict[str, CommandRun]:
        """The command, and the command that it must be identical to; raises `BadOption`."""
        if self.against is None:
            return {MAIN: self.check.command_run()}
        return against.commands_of(self.against, self.check)

    def plan(self, commands: Mapping[str, CommandRun]) -> list[str]:
        """The runs without switches, with ever fewer switches, and for the step time."""
        most = self.check.processes
        names = ", ".join(switch.name for switch in self.switches)
        lines = [f"explains: {self.title}"]
        lines.append(f"runs it {FIRST_RUNS} to {most} times, to estimate how often pairs diverge")
        lines.append(f"then with all applicable switches, then with ever fewer: {names}")
        if self.cost:
            lines.append(
                "then in pairs of processes with and without the fix, turn by turn, to time a step;"
                " not for a fix that only sets seeds"
            )
        lines.append(f"at most {self.max_runs} runs in total (--max-runs)")
        return lines + self.check.place_lines(commands[MAIN])

    def saved(self) -> None:
        """Nothing, because each run depends on the earlier runs."""

    def answer(self, experiment: Experiment) -> Judgement:
        """Estimate how often pairs diverge, reduce the switches, and time the fix."""
        runs = _SwitchedRuns(self, experiment)
        result = FixSearch(sides=len(runs.sides))
        conclusion = _search(runs, result)
        result.runs = len(runs.rows)
        return judgement(result, conclusion or conclude(result), runs.rows)


@dataclass(frozen=True, slots=True)
class SwitchTried:
    """A switch of the search: its effect, its permanent form, and why it was skipped, if it was."""

    name: str
    about: str
    write: str
    skipped: str = ""


@dataclass(slots=True)
class FixSearch:
    """The result of a search, which may have been stopped early.

    Attributes:
        sides: the number of commands.
        runs: the number of runs.
        differ, pairs: the pairs of runs without switches that diverged, and all of them.
        first: the place of the first difference.
        identical: the sentence if no pair diverged.
        switches: every switch.
        explanation: the result of the reduction; None if it was not started.
        exhausted: whether the limit of runs ended the search.
        remaining: the place of the difference that remains with all switches.
        cost: the time of a step with the fix relative to without.
        notes: further notes for the reader.
    """

    sides: int = 1
    runs: int = 0
    differ: int = 0
    pairs: int = 0
    first: str = ""
    identical: str = ""
    switches: list[SwitchTried] = field(default_factory=list)
    explanation: Explanation | None = None
    exhausted: bool = False
    remaining: str = ""
    cost: StepSpeed | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of pairs that diverged."""
        return self.differ / self.pairs if self.pairs else 0.0

    @property
    def needed(self) -> int:
        """The number of identical pairs that a fix needs."""
        return pairs_needed(self.share)

    @property
    def fix(self) -> tuple[str, ...] | None:
        """The switches of the fix; empty without a fix, None if unknown."""
        if self.explanation is None or not self.explanation.minimal:
            return None
        return self.explanation.cause

    @property
    def applying(self) -> list[str]:
        """The names of the switches that were not skipped."""
        return [switch.name for switch in self.switches if not switch.skipped]

    def result_of(self, switch: SwitchTried) -> str:
        """The result for a switch; empty if unknown."""
        if switch.skipped:
            return f"skipped: {switch.skipped}"
        if self.fix is None:
            return ""
        if not self.fix:
            return "not a fix, even with all others"
        return "part of the fix" if switch.name in self.fix else "not needed"


# The search


class _SwitchedRuns:
    """The runs of all sides, with switches, up to a limit."""

    def __init__(self, request: FixRequest, experiment: Experiment) -> None:
        self.request, self.experiment = request, experiment
        self.known = {switch.name: switch for switch in request.switches}
        self.sides = list(experiment.commands)  # in the order of their runs
        self.rows: list[Row] = []

    @property
    def left(self) -> int:
        """The number of runs within the limit."""
        return self.request.max_runs - len(self.rows)

    def words(self, side: str) -> Sequence[str]:
        """The words of a command."""
        return self.experiment.commands[side].words

    def run(self, side: str, names: Sequence[str], **options: Any) -> Ended:
        """Make one run with these switches; raises `Exhausted` at the limit."""
        if not self.left:
            raise Exhausted
        number, is_timed = len(self.rows) + 1, "level" in options
        which = f"{side}, " if len(self.sides) > 1 else ""
        purpose = "for the step time, " if is_timed else ""
        switches = f" with {', '.join(names)}" if names else ""
        run = self.experiment.run(
            f"run-{number}",
            number,
            f"{purpose}{which}run {number}{switches}",
            command=side,
            variables=self.variables(names),
            **{"switches": self.recorded(names), "notice": not names, **options},
        )
        self._add_row(run, side, names, is_timed=is_timed)
        return run

    def variables(self, names: Sequence[str]) -> dict[str, str]:
        """The environment variables of these switches."""
        return {k: v for name in names for k, v in self.known[name].variables.items()}

    def recorded(self, names: Sequence[str]) -> list[str]:
        """Those of these switches that the recorder sets."""
        return [name for name in names if self.known[name].recorded]

    def add_rows(self, runs: Sequence[Ended], fix: Sequence[str]) -> None:
        """Count the runs of pairs of processes, without the fix and with it."""
        for run in runs:
            names = fix if run.folder.name.startswith("turns-b") else ()
            self._add_row(run, self.sides[-1], names, is_timed=True)

    def _add_row(self, run: Ended, side: str, names: Sequence[str], *, is_timed: bool) -> None:
        (row,) = run_rows([run])
        self.rows.append(
            {
                "run": row.pop("run"),
                **({"side": side} if len(self.sides) > 1 else {}),
                "for": "the step time" if is_timed else "the bits",
                "switches": ", ".join(names),
                **row,
            }
        )

    def compared(self, a: SideRun, b: SideRun) -> CheckRuns:
        """Compare two runs, of one command as `check`, of two as `check --against` does."""
        if a[0] == b[0]:
            return observe(self.words(a[0]), [a[1], b[1]])
        first, second = sorted((a, b), key=lambda side_run: side_run[0])
        for side, run in (first, second):
            trouble = why_not_comparable(self.words(side), [run])
            if trouble is not None:
                return CheckRuns(runs=2, trouble=trouble)
        return compare_commands(first[1], second[1])


def _search(runs: _SwitchedRuns, result: FixSearch) -> Conclusion | None:
    """Complete the result; a conclusion is returned if the runs are not comparable."""
    plain: list[SideRun] = []
    try:
        trouble = _without_switches(runs, result, plain)
    except Exhausted:
        trouble, result.exhausted = None, True
    if trouble is not None or not result.differ or result.exhausted:
        return trouble
    program = observed_program(plain, os.environ)
    result.switches = [
        SwitchTried(switch.name, switch.about, switch.write, switch.idle(program))
        for switch in runs.request.switches
    ]
    _announce(runs, result)
    trial = _Trial(runs, result, steps_of([run for _, run in plain]))
    ask_once = cache(trial)  # no set is tried twice
    try:
        if ask_once(frozenset(result.applying)) == "failure":
            _skip_failing(runs, result)
        result.explanation = search(result.applying, ask_once)
    except Exhausted:
        pass
    result.exhausted = result.explanation is None or not result.explanation.minimal
    result.remaining = trial.remaining
    if result.fix and runs.request.cost:
        result.cost = _measure_cost(runs, result.fix)
    return None


def _announce(runs: _SwitchedRuns, result: FixSearch) -> None:
    needed, names = result.needed, result.applying
    runs.experiment.note(
        f"{result.differ} of {result.pairs} pairs diverge (p = {result.share:.2f}): a set of"
        f" switches is accepted as a fix after {counted(needed, 'identical pair')},"
        f" {2 * needed} runs"
    )
    runs.experiment.note(
        f"{len(names)} switches apply: {', '.join(names)}; at most {runs.left} more runs"
    )


def _without_switches(
    runs: _SwitchedRuns, result: FixSearch, plain: list[SideRun]
) -> Conclusion | None:
    """Estimate the share of diverging pairs; return a conclusion if runs are not comparable."""
    kinds: dict[str, list[int]] = {side: [] for side in runs.sides}
    examples: list[SideRun] = []  # the first of identical runs
    identical: CheckRuns | None = None
    for side in islice(turns(runs.sides), runs.request.check.processes):
        run = (side, runs.run(side, ()))
        kind = len(examples)
        for index, example in enumerate(examples):
            observed = runs.compared(example, run)
            answer = conclude_runs(observed)
            if observed.trouble is not None or answer.outcome == "inconclusive":
                return answer
            if answer.outcome == "pass":
                kind, identical = index, observed
                break
            result.first = result.first or _first(observed, answer)
        if not examples:
            trouble = why_not_comparable(runs.words(side), [run[1]])
            if trouble is not None:
                return trouble
        if kind == len(examples):
            examples.append(run)
        kinds[side].append(kind)
        plain.append(run)
        result.differ, result.pairs = share_of_pairs(kinds)
        if len(plain) >= FIRST_RUNS and result.differ == result.pairs:
            break
    if not result.differ and identical is not None:
        identical.identical_text = f"bitwise identical in {len(plain)} runs"
        result.identical = conclude_runs(identical).sentence
    return None


def _first(observed: CheckRuns, answer: Conclusion) -> str:
    """The place of the first difference, without the numbers of the runs."""
    pair = observed.diverged
    first = pair.compared.first if pair else None
    if pair is None or first is None or first.how == "steps":
        return answer.finding
    return place_text(observed, pair, first)


def observed_program(plain: Sequence[SideRun], variables: Mapping[str, str]) -> ObservedProgram:
    """The properties of the program, from its runs without switches."""
    generators: set[str] = set()
    used: set[str] = set()
    for _, run in plain[:2]:
        used |= {line.why for line in run.events("used")}
        for trace in run.traces:
            generators |= trace.head.generators.keys()
            for step in trace.steps():
                generators |= {e.identity for e in step.events if e.kind == "generator"}
    return ObservedProgram(dict(variables), frozenset(generators), frozenset(used))


def steps_of(runs: Sequence[Ended]) -> tuple[int, int]:
    """The fewest and the most steps of a process in these runs."""
    counts = [trace.step_count for run in runs for trace in run.traces]
    return min(counts, default=0), max(counts, default=0)


def _skip_failing(runs: _SwitchedRuns, result: FixSearch) -> None:
    """Skip the switches with which the command fails, each tried on its own."""
    side = runs.sides[-1]
    why: dict[str, str] = {}
    for name in result.applying:
        run = runs.run(side, [name])
        if unset := run.events("failed"):
            why[name] = f"it cannot be set here: {unset[0].why}"
        elif why_not_comparable(runs.words(side), [run]) is not None:
            why[name] = "the command fails with it"
    result.switches = [replace(s, skipped=why.get(s.name, s.skipped)) for s in result.switches]


class _Trial:
    """Whether a set of switches makes all runs identical: "B" if so, "A" if two of them differ."""

    def __init__(
        self, runs: _SwitchedRuns, result: FixSearch, plain_steps: tuple[int, int]
    ) -> None:
        self.runs, self.result, self.plain_steps = runs, result, plain_steps
        self.remaining = ""

    def __call__(self, names: frozenset[str]) -> Gives:
        """Make runs until two differ, or there are enough identical pairs."""
        ordered = [name for name in self.runs.known if name in names]
        sides = turns(self.runs.sides)
        side = next(sides)
        first = (side, self.runs.run(side, ordered))
        for side in islice(sides, 2 * self.result.needed - 1):
            run = (side, self.runs.run(side, ordered))
            observed = self.runs.compared(first, run)
            answer = conclude_runs(observed)
            if observed.trouble is not None or answer.outcome == "inconclusive":
                return "failure"
            if run[1].events("failed"):
                return "failure"
            if answer.outcome == "fail":
                self.remaining = self.remaining or _first(observed, answer)
                return "A"
        self._compare_steps(ordered, first[1])
        return "B"

    def _compare_steps(self, names: Sequence[str], run: Ended) -> None:
        """Note if the number of steps differs from the runs without switches."""
        fewest, most = steps_of([run])
        if not (self.plain_steps[0] <= fewest and most <= self.plain_steps[1]):
            counts = f"it makes {most} steps, without them {self.plain_steps[1]}"
            self.result.notes.append(f"with {', '.join(names)} {counts}")


def _measure_cost(runs: _SwitchedRuns, fix: Sequence[str]) -> StepSpeed:
    """The time of a step with the fix relative to without, turn by turn if possible.

    A pair of processes counts as two runs. Seeds take no time, so they are not timed.
    """
    if all(runs.known[name].is_seed for name in fix):
        return StepSpeed("inconclusive", THRESHOLD, "the fix only sets seeds")
    off = why_off("auto", runs.request.check, {MAIN: runs.experiment.commands[runs.sides[-1]]})
    count = COST_RUNS
    if runs.left < 2 * count:
        why = f"it needs {2 * count} runs, more than --max-runs leaves"
        return StepSpeed("inconclusive", THRESHOLD, why)
    if not off:
        most = min(against.PROCESSES, runs.left // 2)
        pairs = _cost_pairs(runs, fix, most)
        pairs.make(runs.experiment)
        runs.add_rows(pairs.runs, fix)
        if not pairs.why_none:
            return pairs.speed()
        off = pairs.why_none
    runs.experiment.note(f"timed one after the other: {off}")
    return _cost_in_sequence(runs, fix, count)


def _cost_pairs(runs: _SwitchedRuns, fix: Sequence[str], most: int) -> Pairs:
    """Pairs of processes without the fix (A) and with it (B)."""
    command, shared = runs.sides[-1], shared_variables(PAGES[0], WAITING[0], os.environ)

    def side(name: str, number: int) -> PairSide:
        names = fix if name == "B" else ()
        return PairSide(
            command,
            number,
            f"turns-{name.lower()}-{number}",
            f"for the step time, run {number} {'with' if names else 'without'} the fix",
            {**shared, **runs.variables(names)},
            {"switches": runs.recorded(names)},
        )

    def sides(number: int) -> dict[str, PairSide]:
        order = SIDES if number % 2 else SIDES[::-1]
        return {name: side(name, number) for name in order}

    def trouble(_side: str, ended: Sequence[Ended]) -> Conclusion | None:
        return why_not_comparable(runs.words(command), ended) if ended else None

    return Pairs(most, THRESHOLD, runs.request.skip, sides, trouble)


def _cost_in_sequence(runs: _SwitchedRuns, fix: Sequence[str], count: int) -> StepSpeed:
    """The same from interleaved runs."""
    side, skip = runs.sides[-1], runs.request.skip
    if runs.left < 2 * count:
        why = f"it needs {2 * count} runs, more than --max-runs leaves"
        return StepSpeed("inconclusive", THRESHOLD, why)
    times: dict[str, list[ClockedRun]] = {name: [] for name in SIDES}
    for which in islice(turns(SIDES), 2 * count):
        run = runs.run(side, fix if which == "B" else (), level="clock", notice=False)
        times[which].append(clocked(run.traces, skip))
    return step_speed(times["A"], times["B"], THRESHOLD, skip)


# The evidence


def pairs_needed(share: float) -> int:
    """The number of identical pairs that a fix needs if this share of pairs diverges."""
    p = min(share, MAX_P)
    return max(1, math.ceil(math.log(ERROR) / math.log1p(-p) - 1e-9))


def share_of_pairs(kinds: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """The number of differing pairs of runs, and of all pairs; runs of one kind are identical.

    `kinds` has the kind of each run, per command. All runs of a single command are paired; with two
    commands, each run of one is paired with each run of the other.
    """
    sides = list(kinds.values())
    if len(sides) == 1:
        pairs = list(combinations(sides[0], 2))
    else:
        pairs = [(a, b) for a in sides[0] for b in sides[1]]
    return sum(a != b for a, b in pairs), len(pairs)


# The answer


def conclude(result: FixSearch) -> Conclusion:
    """The answer of a search."""
    if not result.differ and result.exhausted:
        return _not_enough(result, [])
    if not result.differ:
        hint = "to detect a rarer difference, make more runs with --processes N"
        return Conclusion("pass", f"nothing to explain: {result.identical}", hint=hint)
    details = [("diverging pairs", _share_text(result)), ("first difference", result.first)]
    if result.fix:
        return _fixed(result, details)
    if result.fix == ():
        return _no_fix(result, details)
    return _not_enough(result, details)


def judgement(result: FixSearch, conclusion: Conclusion, rows: Sequence[Row]) -> Judgement:
    """The answer with its verdict, the table of switches, and all details."""
    single = result.sides == 1
    share = f"{result.differ} of {result.pairs} pairs diverge; " if result.differ else ""
    verdict = Verdict(
        check=CHECK if single else BITS,
        subject="the command" if single else "A and B",
        outcome=conclusion.outcome,
        expected="identical bits in every run" if single else "bitwise identical to A",
        actual=f"{share}{conclusion.sentence}",
        hint=conclusion.hint,
    )
    switches: list[Row] = [
        {"switch": switch.name, "effect": switch.about, "result": result.result_of(switch)}
        for switch in result.switches
    ]
    explanation = result.explanation
    details = {
        "fix": result.fix,
        "rest_gives": None if explanation is None else explanation.rest_gives,
        "share": result.share,
        "pairs": result.pairs,
        "pairs_needed": result.needed if result.differ else None,
        "runs": result.runs,
        "switches": [asdict(switch) for switch in result.switches],
        "cost": None if result.cost is None else result.cost.for_programs(),
    }
    tables = [("switches", "Switches", switches)] if switches else []
    return Judgement(conclusion, [verdict], rows, details, tables=tables)


def _share_text(result: FixSearch) -> str:
    return (
        f"{result.differ} of {result.pairs} (p = {result.share:.2f}); a set of switches is accepted"
        f" as a fix after {counted(result.needed, 'identical pair')}"
    )


def _fixed(result: FixSearch, details: list[tuple[str, str]]) -> Conclusion:
    explanation = result.explanation
    assert explanation is not None
    names = explanation.cause
    effect = "all runs are identical" if result.sides == 1 else "A and B are identical"
    evidence = counted(result.needed, "pair")
    finding = f"fixed by {' + '.join(names)}: {effect} ({evidence}){_cost_text(result.cost)}"
    switches = {switch.name: switch for switch in result.switches}
    details += [(name, switches[name].about) for name in names]
    if explanation.rest:
        rest = f"{', '.join(explanation.rest)}: {REST[explanation.rest_gives]}"
        details.append(("the other switches", rest))
    details += _cost_details(result.cost) + _skipped(result)
    return Conclusion(
        "fail",
        finding,
        hint="; ".join(switch.write for switch in result.switches if switch.name in names),
        details=tuple(details),
        notes=tuple(result.notes),
    )


REST: Final[dict[Gives | None, str]] = {
    "A": "they do not suffice",
    "B": "they also suffice, so they contain a second fix",
    "neither": "they do not suffice",
    "failure": "the command fails with only these",
    None: "not tried on their own (--max-runs)",
}


def _cost_text(cost: StepSpeed | None) -> str:
    """The step time, for the sentence."""
    if cost is None or cost.why:
        return ""
    inconclusive = "inconclusive: " if cost.verdict == "inconclusive" else ""
    return f"; step time {inconclusive}{cost.figure}"


def _cost_details(cost: StepSpeed | None) -> list[tuple[str, str]]:
    if cost is None:
        return []
    if cost.why:
        return [("step time", f"not measured: {cost.why}")]
    return [("step time", f"with the fix {cost.figure} the time without it")]


def _skipped(result: FixSearch) -> list[tuple[str, str]]:
    names = [f"{switch.name} ({switch.skipped})" for switch in result.switches if switch.skipped]
    return [("skipped", ", ".join(names))] if names else []


def _no_fix(result: FixSearch, details: list[tuple[str, str]]) -> Conclusion:
    effect = "makes all runs identical" if result.sides == 1 else "makes A and B identical"
    finding = f"no switch {effect}: they still differ with all applicable switches"
    details.append(("tried together", ", ".join(result.applying)))
    details += [("remaining difference", result.remaining), *_skipped(result)]
    hint = (
        "the cause is in the program itself: time, os.urandom, its own threads, uninitialized"
        " memory; xorbench check shows the first difference"
    )
    if result.sides == 2:
        hint = (
            "the cause is in the programs themselves: xorbench check --against shows the first"
            " difference"
        )
    return Conclusion("fail", finding, hint=hint, details=tuple(details), notes=tuple(result.notes))


def _not_enough(result: FixSearch, details: list[tuple[str, str]]) -> Conclusion:
    so_far = result.explanation.cause if result.explanation is not None else ()
    smallest = f"; {' + '.join(so_far)} suffices, but a part of it may too" if so_far else ""
    return Conclusion(
        "inconclusive",
        f"not enough evidence after {result.runs} runs (--max-runs){smallest}",
        hint="raise the limit with --max-runs, or shorten each run with --steps",
        details=(*details, *_skipped(result)),
        notes=tuple(result.notes),
    )
