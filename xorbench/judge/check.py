"""What the runs of a user's command show: the same again, or where not, and what that means."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from xorbench.judge.components import COMPONENTS, component_of
from xorbench.judge.elements import Difference
from xorbench.judge.event_names import kind_in_plural, label, when
from xorbench.judge.first_difference import Compared, Coverage, FirstDifference
from xorbench.judge.limits import Gap, gap_between, not_compared
from xorbench.judge.verdicts import Outcome, Verdict, counted, failed, inconclusive, passed, some

CHECK: Final = "same again"
NOT_SAME: Final = "not the same: "
SEEDS: Final = {
    "python": "random.seed(0)",
    "numpy": "numpy.random.seed(0)",
    "torch cpu": "torch.manual_seed(0)",
}
ELSEWHERE: Final = (
    "a numpy.random.Generator or a torch.Generator of the program's own, a thread, the time,"
    " os.urandom, or the order of a set or of hashes (PYTHONHASHSEED)"
)
MANY_ULPS: Final = 1 << 20  # beyond, the values themselves say more


@dataclass(frozen=True, slots=True)
class Closer:
    """A pair of runs recorded in detail: where it diverged first, and the element."""

    first: FirstDifference | None
    element: Difference | None = None


@dataclass(slots=True)
class RunPair:
    """One process of the command in two runs, and what the two are called.

    `ended_by_parent` says that another process ends it: its launcher, which starts it again, or
    the pool that it belongs to.
    """

    process: str
    compared: Compared
    b: str
    a: str = "run 1"
    resumed_from: int | None = None
    ended_by_parent: bool = False


@dataclass(slots=True)
class CheckRuns:
    """All that the runs came to, as far as there were any.

    Attributes:
        runs: how many runs were made.
        trouble: why there is nothing to compare, with what it comes to and a hint.
        unpaired: processes that one run has and another has not.
        pairs: what comparing came to.
        closer: the pairs that were run again in detail.
        notes: what should be known besides.
        who: how it is said that they are the same.
        files: the files that the runs have saved in their working folder.
        commands: commands that run Python and have not loaded the recorder.
    """

    runs: int = 0
    trouble: tuple[Outcome, str, str] | None = None
    unpaired: list[str] = field(default_factory=list)
    pairs: list[RunPair] = field(default_factory=list)
    closer: list[Closer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    who: str = ""
    files: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def diverged(self) -> RunPair | None:
        """The pair that diverges first: by step, then by process."""
        found = [pair for pair in self.pairs if pair.compared.first is not None]
        return min(found, key=_step, default=None)


def _step(pair: RunPair) -> int:
    return pair.compared.first.step if pair.compared.first else -1


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The answer: one sentence, where it is that they differ, what that means, and what to do."""

    outcome: Outcome
    sentence: str
    component: str = ""
    meaning: str = ""
    hint: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    step: int | None = None

    @property
    def finding(self) -> str:
        """The sentence without the words that every difference begins with."""
        return self.sentence.removeprefix(NOT_SAME)


def conclude(observed: CheckRuns) -> Conclusion:
    """The answer to whether the training is the same when it is run again."""
    return replace(_concluded(observed), notes=tuple(observed.notes))


def _concluded(observed: CheckRuns) -> Conclusion:
    if observed.trouble is not None:
        outcome, sentence, hint = observed.trouble
        return Conclusion(outcome, sentence, hint=hint)
    if observed.unpaired:
        component = COMPONENTS["events"]
        sentence = f"{NOT_SAME}{'; '.join(observed.unpaired)}"
        return Conclusion("fail", sentence, "events", component.meaning, component.hint)
    diverged = observed.diverged
    if diverged is None:
        return _same(observed)
    return _different(observed, diverged)


def _same(observed: CheckRuns) -> Conclusion:
    coverages = [pair.compared.coverage for pair in observed.pairs]
    if not coverages or not any(coverage.steps for coverage in coverages):
        return Conclusion(
            "inconclusive", "no step was recorded in both runs", hint="give it longer"
        )
    facts = tuple(_coverage_facts(observed))
    for pair in observed.pairs:
        gap = gap_between(pair.compared.coverage, ended_by_parent=pair.ended_by_parent)
        if gap is not None:
            return _same_so_far(observed, pair, gap, facts)
    steps = counted(max(coverage.steps for coverage in coverages), "step")
    uneven = len({coverage.steps for coverage in coverages}) > 1
    who = observed.who or f"the same in {observed.runs} runs"
    where = _each(observed.pairs)
    sentence = f"{who}, to the bit: {'up to ' if uneven and where else ''}{steps}{where}"
    return Conclusion("pass", sentence, facts=facts)


def _same_so_far(
    observed: CheckRuns, pair: RunPair, gap: Gap, facts: tuple[tuple[str, str], ...]
) -> Conclusion:
    """Equal as far as the records go, which is not far enough."""
    process = f" of {pair.process}" if _several(observed) else ""
    steps = counted(pair.compared.coverage.steps, "step")
    sentence = f"inconclusive after {steps}{process}, identical so far: {gap.text}"
    return Conclusion("inconclusive", sentence, hint=gap.hint, facts=facts)


def _each(pairs: Sequence[RunPair]) -> str:
    """In how many ranks, or processes, it trains, where there are several."""
    processes = {pair.process for pair in pairs}
    ranks = all(re.fullmatch(r"rank \d+", process) for process in processes)
    what = counted(len(processes), "rank" if ranks else "process")
    return f" in each of {what}" if len(processes) > 1 else ""


def _coverage_facts(observed: CheckRuns) -> list[tuple[str, str]]:
    """The events that were compared, and what the runs did besides."""
    pairs = observed.pairs
    coverages = [pair.compared.coverage for pair in pairs]
    phrases = not_compared(coverages, observed.files, observed.commands)
    return _covered_facts(pairs) + ([("not compared", "; ".join(phrases))] if phrases else [])


def _covered_facts(pairs: Sequence[RunPair]) -> list[tuple[str, str]]:
    """The events that were compared, of all processes at once where they are the same."""
    of: dict[str, list[str]] = {}
    for pair in pairs:
        said = of.setdefault(covered(pair.compared.coverage), [])
        said += [pair.process] if pair.process not in said else []
    if len({pair.process for pair in pairs}) == 1 or len(of) == 1:
        return [("coverage", said) for said in of]
    return [(f"coverage of {some(processes)}", said) for said, processes in of.items()]


def covered(coverage: Coverage) -> str:
    """What was compared, in one line."""
    counts = coverage.counts
    parts = [
        counted(coverage.steps, "step"),
        counted(len(coverage.parameters), "parameter"),
        counted(len(coverage.buffers), "buffer"),
        counted(counts["batch"], "input") + " of modules",
        counted(counts["loss"], "loss"),
        _final(coverage),
    ]
    if coverage.left_out:
        parts.append(f"not the last {counted(coverage.left_out, 'step')}: the record was full")
    if coverage.events_left_out:
        parts.append(f"not {coverage.events_left_out:,} events of very long steps")
    told = [f"{reason} ({count} times)" for reason, count in coverage.not_recorded.items()]
    if told:
        parts.append(f"not recorded: {some(told)}")
    if coverage.errors:
        parts.append(f"errors of the recorder: {some(sorted(set(coverage.errors)))}")
    return ", ".join(parts)


def _final(coverage: Coverage) -> str:
    """Which of the final weights were compared."""
    if not coverage.ended:
        return "not the final parameters"
    states = coverage.counts["final state"]
    return "the final parameters" + (" and the optimizer's state" if states else "")


def _different(observed: CheckRuns, pair: RunPair) -> Conclusion:
    first = pair.compared.first
    assert first is not None
    closest = _closest(observed, first)
    near = closest.first if closest is not None and closest.first is not None else first
    key = "resumed" if pair.resumed_from is not None else component_of(near)
    component = COMPONENTS[key]
    said = f"{pair.b} differs from {pair.a} first in {place_said(observed, pair, first)}"
    if first.how == "steps":
        a, b = first.steps
        of = f" in {pair.process}" if _several(observed) else ""
        said = f"{pair.a} has {counted(a, 'step')}, {pair.b} has {b:,}{of}"
    meaning = component.meaning
    if pair.resumed_from is not None:
        meaning = (
            f"The weights that {pair.b} starts from are those that {pair.a} had before step"
            f" {pair.resumed_from}: it found a file of {pair.a} and resumed."
        )
    if near.event.more.random:
        meaning = (
            "An operator drew other numbers from a generator that is not seeded, as in dropout."
        )
    facts = [*_facts(observed, pair, first, closest)]
    hint = _hint(key, first, near)
    return Conclusion(
        "fail", f"{NOT_SAME}{said}", key, meaning, hint, tuple(facts), step=first.step
    )


def place_said(observed: CheckRuns, pair: RunPair, first: FirstDifference) -> str:
    """In which step, of which process where there are several, and in what a pair differs first."""
    of = f" of {pair.process}" if _several(observed) else ""
    return f"{when(first)}{of}, in {label(first)}"


def _several(observed: CheckRuns) -> bool:
    """Whether the command trains in several processes."""
    return len({pair.process for pair in observed.pairs}) > 1


def _closest(observed: CheckRuns, first: FirstDifference) -> Closer | None:
    """The pair in detail that diverged where the first did, or a step before; else another."""
    found = [closer for closer in observed.closer if closer.first is not None]
    near = [c for c in found if c.first and first.step - 1 <= c.first.step <= first.step]
    elsewhere = [c for c in found if c.first and component_of(c.first) != "update"]
    return next(iter([*near, *elsewhere]), None)


def _facts(
    observed: CheckRuns, pair: RunPair, first: FirstDifference, closest: Closer | None
) -> list[tuple[str, str]]:
    facts = [("equal before it", covered_before(pair.compared.coverage))]
    facts += _by_process(observed, pair)
    differing, total = first.others
    if total > 1:
        facts.append(
            ("in this step", f"{differing} of {total} {kind_in_plural(first.event.kind)} differ")
        )
    if closest is not None and closest.first is not None and closest.first != first:
        near = closest.first
        facts.append(("in detail", f"{when(near)}: {label(near)}"))
    if closest is not None and closest.first is not None and closest.first.optimizer:
        facts.append(("optimizer", closest.first.optimizer))
    if closest is not None and closest.element is not None:
        facts += element_facts(closest.element)
    if first.generators:
        drawn = f"drawn from: {', '.join(first.drawn)}" if first.drawn else ""
        drawn = "not drawn from in this step" if first.undrawn else drawn
        text = "; ".join(filter(None, (", ".join(first.generators), drawn)))
        facts.append(("generators that differ", text))
    elif first.how == "digest":
        facts.append(("generators", "all global ones are equal where the step begins"))
    facts += _repeats(observed, first)
    return facts


def _by_process(observed: CheckRuns, pair: RunPair) -> list[tuple[str, str]]:
    """Where each process diverges, if there are several: what it is that one of them begins."""
    same = [one for one in observed.pairs if one.b == pair.b]
    if len(same) == 1:
        return []
    firsts = [(one.process, one.compared.first) for one in same]
    told = [
        f"{process}: {'the same' if first is None else when(first)}" for process, first in firsts
    ]
    return [("differs first in", some(told, 8))]


def covered_before(coverage: Coverage) -> str:
    """What was equal before the difference."""
    if not coverage.steps:
        return "what came before it in step 0" if coverage.counts else "nothing, it is the first"
    return f"{counted(coverage.steps, 'step')}, {counted(len(coverage.parameters), 'parameter')}"


def element_facts(found: Difference) -> list[tuple[str, str]]:
    """The first element that differs, and how many do."""
    element = found.first
    if element is None:
        return found.kinds
    close = element.ulps is not None and element.ulps <= MANY_ULPS
    ulps = f", {element.ulps:,} ulps apart" if close else ""
    return [
        ("elements", f"{found.differing:,} of {found.elements:,} differ"),
        (
            "first element",
            f"{element.index}: {element.a} and {element.b} ({element.a_bits}, {element.b_bits})"
            f"{ulps}",
        ),
    ]


def _repeats(observed: CheckRuns, first: FirstDifference) -> list[tuple[str, str]]:
    """How often pairs of runs diverge, and where else."""
    places = [closer.first.step if closer.first else None for closer in observed.closer]
    if not places:
        return []
    runs = {pair.b for pair in observed.pairs}
    differing = {pair.b for pair in observed.pairs if pair.compared.first is not None}
    all_pairs = len(runs) + len(places)
    diverging = len(differing) + sum(place is not None for place in places)
    text = f"{diverging} of {all_pairs} pairs of runs diverge"
    elsewhere = [p for p in places if p is not None and not first.step - 1 <= p <= first.step]
    if elsewhere:
        text += f"; first in step {first.step} in one, in step {elsewhere[0]} in another"
    return [("run again", text)]


def _hint(key: str, first: FirstDifference, near: FirstDifference) -> str:
    own = COMPONENTS[key].hint
    if key == "forward" and near.event.more.random:
        return _generator_hint(key, first)
    if key in ("parameters", "batch", "input", "data"):
        return "; ".join(filter(None, (own, _generator_hint(key, first))))
    return own


def _generator_hint(key: str, first: FirstDifference) -> str:
    """What to seed: what differs and was drawn from, what differs, or what is not global.

    Initial parameters and data may be drawn before the first step, where nobody sees it. What
    differs within a step was drawn in it.
    """
    if first.drawn:
        return f"seed what was drawn from: {_seeds(first.drawn)}"
    if first.generators and not (first.undrawn and key in ("data", "input", "forward")):
        return (
            f"seed what differs: {_seeds(first.generators)}; loader workers inherit it. If that"
            f" does not help, look for {ELSEWHERE}"
        )
    return f"none of the global generators explains it: look for {ELSEWHERE}"


def _seeds(names: Sequence[str]) -> str:
    return ", ".join(f"{name} ({SEEDS.get(name, 'its seed function')})" for name in names)


def verdicts(observed: CheckRuns, conclusion: Conclusion) -> list[Verdict]:
    """The answer as verdicts: one for each process of the command and run."""
    expected = "the same bits in every run"
    if observed.trouble is not None or observed.unpaired or not observed.pairs:
        make = failed if conclusion.outcome == "fail" else inconclusive
        return [make(CHECK, "the command", expected, conclusion.sentence, conclusion.hint)]
    found = []
    for pair in observed.pairs:
        subject = f"{pair.a} and {pair.b}: {pair.process}"
        first = pair.compared.first
        if first is not None:
            actual = f"differs first in {when(first)}, in {label(first)}"
            found.append(failed(CHECK, subject, expected, actual, conclusion.hint))
        elif conclusion.outcome == "inconclusive":
            actual = covered(pair.compared.coverage)
            found.append(inconclusive(CHECK, subject, expected, actual, conclusion.hint))
        else:
            found.append(passed(CHECK, subject, expected, covered(pair.compared.coverage)))
    return found
