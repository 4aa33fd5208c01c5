"""Whether the runs of a user's command are identical, where they differ first, and why."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from xorbench.programs.components import COMPONENTS, component_of
from xorbench.programs.elements import Difference
from xorbench.programs.event_names import kind_in_plural, label, when
from xorbench.programs.first_difference import Compared, Coverage, FirstDifference
from xorbench.programs.limits import Gap, gap_between, not_compared
from xorbench.verdicts import Outcome, Verdict, counted, failed, inconclusive, passed, some

CHECK: Final = "same again"
NOT_SAME: Final = "not the same: "  # the lead of every difference
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
class Conclusion:
    """The answer: what was found, in which component, what that means, and what to do.

    `lead` are the words before the finding in a sentence; a page has a word of its own for them.
    """

    outcome: Outcome
    finding: str
    component: str = ""
    meaning: str = ""
    hint: str = ""
    details: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    step: int | None = None
    lead: str = ""

    @property
    def sentence(self) -> str:
        """The whole answer in a sentence."""
        return f"{self.lead}{self.finding}"


@dataclass(frozen=True, slots=True)
class DetailedPair:
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
    """The collected results of all runs.

    Attributes:
        runs: how many runs were made.
        trouble: why there is nothing to compare.
        unpaired: processes that only one of two runs has.
        pairs: the comparisons, by process and run.
        detailed_pairs: the pairs that were run again with detailed recording.
        notes: further notes for the reader.
        same_text: the first words of the answer where nothing differs.
        files: the files that the runs have saved in their working folder.
        commands: commands that run Python and have not loaded the recorder.
    """

    runs: int = 0
    trouble: Conclusion | None = None
    unpaired: list[str] = field(default_factory=list)
    pairs: list[RunPair] = field(default_factory=list)
    detailed_pairs: list[DetailedPair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    same_text: str = ""
    files: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def diverged(self) -> RunPair | None:
        """The pair that diverges first: by step, then by process."""
        diverging = [pair for pair in self.pairs if pair.compared.first is not None]
        return min(diverging, key=_step, default=None)


def _step(pair: RunPair) -> int:
    return pair.compared.first.step if pair.compared.first else -1


def conclude(observed: CheckRuns) -> Conclusion:
    """The answer to whether the training is the same when it is run again."""
    return replace(_concluded(observed), notes=tuple(observed.notes))


def _concluded(observed: CheckRuns) -> Conclusion:
    if observed.trouble is not None:
        return observed.trouble
    if observed.unpaired:
        meaning, hint = COMPONENTS["events"].meaning, COMPONENTS["events"].hint
        finding = "; ".join(observed.unpaired)
        return Conclusion("fail", finding, "events", meaning, hint, lead=NOT_SAME)
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
    details = tuple(_coverage_details(observed))
    for pair in observed.pairs:
        gap = gap_between(pair.compared.coverage, ended_by_parent=pair.ended_by_parent)
        if gap is not None:
            return _same_so_far(observed, pair, gap, details)
    steps = counted(max(coverage.steps for coverage in coverages), "step")
    uneven = len({coverage.steps for coverage in coverages}) > 1
    same = observed.same_text or f"the same in {observed.runs} runs"
    where = _each(observed.pairs)
    finding = f"{same}, to the bit: {'up to ' if uneven and where else ''}{steps}{where}"
    return Conclusion("pass", finding, details=details)


def _same_so_far(
    observed: CheckRuns, pair: RunPair, gap: Gap, details: tuple[tuple[str, str], ...]
) -> Conclusion:
    """Equal as far as the records go, which is not far enough."""
    process = f" of {pair.process}" if _several(observed) else ""
    steps = counted(pair.compared.coverage.steps, "step")
    finding = f"inconclusive after {steps}{process}, identical so far: {gap.text}"
    return Conclusion("inconclusive", finding, hint=gap.hint, details=details)


def _each(pairs: Sequence[RunPair]) -> str:
    """In how many ranks, or processes, it trains, where there are several."""
    processes = {pair.process for pair in pairs}
    ranks = all(re.fullmatch(r"rank \d+", process) for process in processes)
    what = counted(len(processes), "rank" if ranks else "process")
    return f" in each of {what}" if len(processes) > 1 else ""


def _coverage_details(observed: CheckRuns) -> list[tuple[str, str]]:
    """The events that were compared, and what the runs did besides."""
    pairs = observed.pairs
    coverages = [pair.compared.coverage for pair in pairs]
    phrases = not_compared(coverages, observed.files, observed.commands)
    return _covered_details(pairs) + ([("not compared", "; ".join(phrases))] if phrases else [])


def _covered_details(pairs: Sequence[RunPair]) -> list[tuple[str, str]]:
    """The events that were compared, of all processes at once where they are the same."""
    processes: dict[str, dict[str, None]] = {}
    for pair in pairs:
        processes.setdefault(covered(pair.compared.coverage), {})[pair.process] = None
    if len({pair.process for pair in pairs}) == 1 or len(processes) == 1:
        return [("coverage", text) for text in processes]
    return [(f"coverage of {some(list(names))}", text) for text, names in processes.items()]


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
    reasons = [f"{reason} ({count} times)" for reason, count in coverage.not_recorded.items()]
    if reasons:
        parts.append(f"not recorded: {some(reasons)}")
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
    return Conclusion(
        "fail",
        _difference_text(observed, pair, first),
        key,
        _meaning(key, pair, near),
        _hint(key, first, near),
        tuple(_details(observed, pair, first, closest)),
        step=first.step,
        lead=NOT_SAME,
    )


def _difference_text(observed: CheckRuns, pair: RunPair, first: FirstDifference) -> str:
    if first.how == "steps":
        a, b = first.steps
        process = f" in {pair.process}" if _several(observed) else ""
        return f"{pair.a} has {counted(a, 'step')}, {pair.b} has {b:,}{process}"
    return f"{pair.b} differs from {pair.a} first in {place_text(observed, pair, first)}"


def _meaning(key: str, pair: RunPair, near: FirstDifference) -> str:
    if near.event.more.random:
        return "An operator drew other numbers from a generator that is not seeded, as in dropout."
    if pair.resumed_from is not None:
        return (
            f"The weights that {pair.b} starts from are those that {pair.a} had before step"
            f" {pair.resumed_from}: it found a file of {pair.a} and resumed."
        )
    return COMPONENTS[key].meaning


def place_text(observed: CheckRuns, pair: RunPair, first: FirstDifference) -> str:
    """Where a pair first differs: step, process (if several) and tensor."""
    process = f" of {pair.process}" if _several(observed) else ""
    return f"{when(first)}{process}, in {label(first)}"


def _several(observed: CheckRuns) -> bool:
    """Whether the command trains in several processes."""
    return len({pair.process for pair in observed.pairs}) > 1


def _closest(observed: CheckRuns, first: FirstDifference) -> DetailedPair | None:
    """The detailed pair that diverged where the first did, or a step before; else another."""
    pairs = observed.detailed_pairs
    near = [p for p in pairs if p.first and first.step - 1 <= p.first.step <= first.step]
    elsewhere = [p for p in pairs if p.first and component_of(p.first) != "update"]
    return next(iter([*near, *elsewhere]), None)


def _details(
    observed: CheckRuns, pair: RunPair, first: FirstDifference, closest: DetailedPair | None
) -> list[tuple[str, str]]:
    details = [("equal before it", covered_before(pair.compared.coverage))]
    details += _by_process(observed, pair)
    differing, total = first.others
    if total > 1:
        kinds = kind_in_plural(first.event.kind)
        details.append(("in this step", f"{differing} of {total} {kinds} differ"))
    if closest is not None and closest.first is not None:
        details += _detailed_details(closest.first, closest.element, first)
    return [*details, *_generator_details(first), *_repeats(observed, first)]


def _detailed_details(
    near: FirstDifference, element: Difference | None, first: FirstDifference
) -> list[tuple[str, str]]:
    details = [("in detail", f"{when(near)}: {label(near)}")] if near != first else []
    details += [("optimizer", near.optimizer)] if near.optimizer else []
    return details + (element_details(element) if element is not None else [])


def _generator_details(first: FirstDifference) -> list[tuple[str, str]]:
    if first.generators:
        drawn = f"drawn from: {', '.join(first.drawn)}" if first.drawn else ""
        drawn = "not drawn from in this step" if first.undrawn else drawn
        names = ", ".join(first.generators)
        return [("generators that differ", "; ".join(filter(None, (names, drawn))))]
    if first.how == "digest":
        return [("generators", "all global ones are equal where the step begins")]
    return []


def _by_process(observed: CheckRuns, pair: RunPair) -> list[tuple[str, str]]:
    """The first divergence of each process, if there are several; the earliest is the origin."""
    pairs = [other for other in observed.pairs if other.b == pair.b]
    if len(pairs) == 1:
        return []
    firsts = [(other.process, other.compared.first) for other in pairs]
    texts = [f"{name}: {'the same' if first is None else when(first)}" for name, first in firsts]
    return [("differs first in", some(texts, 8))]


def covered_before(coverage: Coverage) -> str:
    """What was equal before the difference."""
    if not coverage.steps:
        return "what came before it in step 0" if coverage.counts else "nothing, it is the first"
    return f"{counted(coverage.steps, 'step')}, {counted(len(coverage.parameters), 'parameter')}"


def element_details(difference: Difference) -> list[tuple[str, str]]:
    """The first element that differs, and how many do."""
    element = difference.first
    if element is None:
        return difference.kinds
    close = element.ulps is not None and element.ulps <= MANY_ULPS
    ulps = f", {element.ulps:,} ulps apart" if close else ""
    return [
        ("elements", f"{difference.differing:,} of {difference.elements:,} differ"),
        (
            "first element",
            f"{element.index}: {element.a} and {element.b} ({element.a_bits}, {element.b_bits})"
            f"{ulps}",
        ),
    ]


def _repeats(observed: CheckRuns, first: FirstDifference) -> list[tuple[str, str]]:
    """How often pairs of runs diverge, and where else."""
    places = [pair.first.step if pair.first else None for pair in observed.detailed_pairs]
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
    return [_pair_verdict(pair, expected, conclusion) for pair in observed.pairs]


def _pair_verdict(pair: RunPair, expected: str, conclusion: Conclusion) -> Verdict:
    subject, first = f"{pair.a} and {pair.b}: {pair.process}", pair.compared.first
    if first is not None:
        actual = f"differs first in {when(first)}, in {label(first)}"
        return failed(CHECK, subject, expected, actual, conclusion.hint)
    actual = covered(pair.compared.coverage)
    if conclusion.outcome == "inconclusive":
        return inconclusive(CHECK, subject, expected, actual, conclusion.hint)
    return passed(CHECK, subject, expected, actual)
