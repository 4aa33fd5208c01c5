"""Whether the runs of a user's command are identical, where they first differ, and why."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from xorbench.programs.components import COMPONENTS, component_of
from xorbench.programs.elements import Difference
from xorbench.programs.event_names import kind_in_plural, label, when
from xorbench.programs.first_difference import Compared, Coverage, FirstDifference
from xorbench.programs.hints import Observations, hint_of
from xorbench.programs.limits import Gap, gap_between, not_compared
from xorbench.programs.saved_files import FileComparison
from xorbench.records.trace import TracedSource
from xorbench.verdicts import (
    Outcome,
    Verdict,
    capitalized,
    counted,
    failed,
    inconclusive,
    passed,
    some,
)

CHECK: Final = "reproducible"
NOT_IDENTICAL: Final = "not identical: "  # the lead of every difference
Sources: TypeAlias = tuple[Sequence[TracedSource], Sequence[TracedSource]]  # of both runs
MANY_ULPS: Final = 1 << 20  # above this distance only the values are shown


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The answer: the finding, its component, its meaning, and a hint.

    `next_command` is a command that may find out more.
    `lead` precedes the finding in a sentence; a page shows the word of the answer instead.
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
    next_command: str = ""

    @property
    def sentence(self) -> str:
        """The complete answer in one sentence."""
        return f"{self.lead}{self.finding}"

    def verdict(self, check: str, subject: str, expected: str) -> Verdict:
        """The answer as the verdict of a check."""
        return Verdict(
            check=check,
            subject=subject,
            outcome=self.outcome,
            expected=expected,
            actual=self.sentence,
            hint=self.hint,
        )


@dataclass(frozen=True, slots=True)
class DetailedPair:
    """The first difference of a pair of runs with detailed recording, and its first element.

    `sources` are the notes of both runs on seeds and sources. `is_pair` is false for a single run,
    which only notes its sources.
    """

    first: FirstDifference | None
    element: Difference | None = None
    sources: Sources = ((), ())
    is_pair: bool = True


@dataclass(slots=True)
class RunPair:
    """One process of the command in two runs, `a` and `b`.

    `ended_by_parent` is true if another process ends it: a launcher that restarts it, or its pool.
    `shares_jobs` is true if a pool decides in which process it trains.
    """

    process: str
    compared: Compared
    b: str
    a: str = "run 1"
    resumed_from: int | None = None
    ended_by_parent: bool = False
    shares_jobs: bool = False


@dataclass(slots=True)
class CheckRuns:
    """The collected results of all runs.

    Attributes:
        runs: the number of runs.
        trouble: the conclusion if the runs are not comparable.
        unpaired: processes that exist in only one of two runs.
        pairs: the comparisons, one per process and run.
        detailed_pairs: the pairs that were rerun with detailed recording.
        notes: further notes for the reader.
        identical_text: the first words of the answer if nothing differs.
        files: the comparison of the files that the runs saved in their working folder.
        files_decide: whether different files are a difference.
        commands: commands that ran Python without the recorder.
        ranks: the comparison of the ranks of the first run; empty for a single rank.
    """

    runs: int = 0
    trouble: Conclusion | None = None
    unpaired: list[str] = field(default_factory=list)
    pairs: list[RunPair] = field(default_factory=list)
    detailed_pairs: list[DetailedPair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    identical_text: str = ""
    files: FileComparison = field(default_factory=FileComparison)
    files_decide: bool = False
    commands: list[str] = field(default_factory=list)
    ranks: str = ""

    @property
    def diverged(self) -> RunPair | None:
        """The pair that diverges first: by step, then by process."""
        diverging = [pair for pair in self.pairs if pair.compared.first is not None]
        return min(diverging, key=_step, default=None)


def _step(pair: RunPair) -> int:
    return pair.compared.first.step if pair.compared.first else -1


def conclude(observed: CheckRuns) -> Conclusion:
    """Whether the training is reproducible."""
    return replace(_concluded(observed), notes=tuple(observed.notes))


def _concluded(observed: CheckRuns) -> Conclusion:
    if observed.trouble is not None:
        return observed.trouble
    if observed.unpaired:
        meaning, hint = COMPONENTS["events"].meaning, COMPONENTS["events"].hint
        finding = "; ".join(observed.unpaired)
        return Conclusion("fail", finding, "events", meaning, hint, lead=NOT_IDENTICAL)
    diverged = observed.diverged
    if diverged is None:
        return _identical(observed)
    return _different(observed, diverged)


def _identical(observed: CheckRuns) -> Conclusion:
    coverages = [pair.compared.coverage for pair in observed.pairs]
    if not coverages or not any(coverage.steps for coverage in coverages):
        return Conclusion(
            "inconclusive", "no step was recorded in both runs", hint="let the runs take longer"
        )
    details = tuple(_coverage_details(observed))
    for pair in observed.pairs:
        gap = gap_between(pair.compared.coverage, ended_by_parent=pair.ended_by_parent)
        if gap is not None:
            return _identical_so_far(observed, pair, gap, details)
    steps = counted(max(coverage.steps for coverage in coverages), "step")
    uneven = len({coverage.steps for coverage in coverages}) > 1
    identical = observed.identical_text or f"bitwise identical in {observed.runs} runs"
    where = _process_count_text(observed.pairs)
    finding = f"{identical}: {'up to ' if uneven and where else ''}{steps}{where}"
    if observed.files_decide and observed.files.different:
        return different_files(finding, observed.files, details)
    return Conclusion("pass", finding, details=details)


def different_files(
    finding: str, files: FileComparison, details: tuple[tuple[str, str], ...]
) -> Conclusion:
    """A difference of saved files, although the training is identical."""
    meaning = f"The training itself is {finding}."
    hint = "look at the code after the last step: an evaluation, an export, a time stamp in a file"
    return Conclusion(
        "fail", files.difference, "saved files", meaning, hint, details, lead=NOT_IDENTICAL
    )


def _identical_so_far(
    observed: CheckRuns, pair: RunPair, gap: Gap, details: tuple[tuple[str, str], ...]
) -> Conclusion:
    """Inconclusive: the records are identical but do not cover the training."""
    process = f" of {pair.process}" if _several(observed) else ""
    steps = counted(pair.compared.coverage.steps, "step")
    finding = f"inconclusive after {steps}{process}, identical so far: {gap.text}"
    return Conclusion("inconclusive", finding, hint=gap.hint, details=details)


def _process_count_text(pairs: Sequence[RunPair]) -> str:
    """The number of ranks or processes that train, if there are several."""
    processes = {pair.process for pair in pairs}
    ranks = all(re.fullmatch(r"rank \d+", process) for process in processes)
    count = counted(len(processes), "rank" if ranks else "process")
    return f" in each of {count}" if len(processes) > 1 else ""


def _coverage_details(observed: CheckRuns) -> list[tuple[str, str]]:
    """The events that were compared, and the parts that were not."""
    pairs = observed.pairs
    coverages = [pair.compared.coverage for pair in pairs]
    phrases = not_compared(coverages, observed.files.unread, observed.commands)
    rows = [
        ("steps", _updates_text(coverages)),
        ("replicated tensors", observed.ranks),
        ("saved files", observed.files.text),
        ("not compared", "; ".join(phrases)),
    ]
    return _covered_details(pairs) + [(name, text) for name, text in rows if text]


def _updates_text(coverages: Sequence[Coverage]) -> str:
    """How steps end in a training without an optimizer of `torch.optim`; else empty."""
    ends = [end for coverage in coverages for end in coverage.ends if end is not None]
    updates = max((end.unseen.updates for end in ends), default=0)
    if not updates:
        return ""
    return (
        f"{counted(updates, 'step')} without torch.optim: a step ends when the weights have changed"
        " after a backward pass, so --steps stops one batch later"
    )


def _covered_details(pairs: Sequence[RunPair]) -> list[tuple[str, str]]:
    """The events that were compared; processes with identical coverage share an entry."""
    processes: dict[str, dict[str, None]] = {}
    for pair in pairs:
        processes.setdefault(covered(pair.compared.coverage), {})[pair.process] = None
    if len({pair.process for pair in pairs}) == 1 or len(processes) == 1:
        return [("coverage", text) for text in processes]
    return [(f"coverage of {some(list(names))}", text) for text, names in processes.items()]


def covered(coverage: Coverage) -> str:
    """The events that were compared, in one line."""
    counts = coverage.counts
    parts = [
        counted(coverage.steps, "step"),
        counted(len(coverage.parameters), "parameter"),
        counted(len(coverage.buffers), "buffer"),
        counted(counts["batch"], "module input"),
        counted(counts["loss"], "loss"),
        _final(coverage),
    ]
    if coverage.steps_not_recorded:
        parts.append(f"last {counted(coverage.steps_not_recorded, 'step')} not recorded")
    if coverage.events_not_recorded:
        parts.append(f"{coverage.events_not_recorded:,} events of very long steps not recorded")
    reasons = [f"{reason} ({count} times)" for reason, count in coverage.not_recorded.items()]
    if reasons:
        parts.append(f"not recorded: {some(reasons)}")
    if coverage.errors:
        parts.append(f"recorder errors: {some(sorted(set(coverage.errors)))}")
    return ", ".join(parts)


def _final(coverage: Coverage) -> str:
    """The final weights that were compared."""
    if not coverage.ended or not coverage.counts["final parameter"]:
        return "final parameters not compared"
    states = coverage.counts["final state"]
    return "final parameters" + (" and optimizer state" if states else "")


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
        hint_of(_observations(observed, key, first, closest)),
        tuple(_details(observed, pair, first, closest)),
        step=first.step,
        lead=NOT_IDENTICAL,
    )


def _observations(
    observed: CheckRuns, key: str, first: FirstDifference, closest: DetailedPair | None
) -> Observations:
    """The observations about the first difference."""
    known = [pair.sources for pair in observed.detailed_pairs if pair.sources[0]]
    sources = closest.sources if closest is not None and closest.sources[0] else None
    near = closest.first if closest is not None and closest.first is not None else first
    element = closest.element if closest is not None else None
    made = key == "buffers" and near.step == 0  # no forward pass has changed it yet
    sources = sources or next(iter(known), ((), ()))
    return Observations("parameters" if made else key, first, near, element, sources)


def _difference_text(observed: CheckRuns, pair: RunPair, first: FirstDifference) -> str:
    if first.how == "steps":
        a, b = first.steps
        process = f" in {pair.process}" if _several(observed) else ""
        return f"{pair.a} has {counted(a, 'step')}, {pair.b} has {b:,}{process}"
    return f"{pair.b} first differs from {pair.a} in {place_text(observed, pair, first)}"


def _meaning(key: str, pair: RunPair, near: FirstDifference) -> str:
    if near.event.more.random:
        return "An operator such as dropout drew from an unseeded generator."
    if pair.resumed_from is not None:
        return (
            f"{capitalized(pair.b)} starts with the weights that {pair.a} had before step"
            f" {pair.resumed_from}: it loaded a file of {pair.a} and resumed."
        )
    if key == "buffers" and near.step == 0:
        return "The program makes the buffer from different values."
    return COMPONENTS[key].meaning


def place_text(observed: CheckRuns, pair: RunPair, first: FirstDifference) -> str:
    """Where a pair first differs: step, process (if several) and tensor."""
    process = f" of {pair.process}" if _several(observed) else ""
    return f"{when(first)}{process}, in {label(first)}"


def _several(observed: CheckRuns) -> bool:
    """Whether the command trains in several processes."""
    return len({pair.process for pair in observed.pairs}) > 1


def _closest(observed: CheckRuns, first: FirstDifference) -> DetailedPair | None:
    """The detailed pair that diverged in the first differing step or the previous one, else any."""
    pairs = observed.detailed_pairs
    near = [p for p in pairs if p.first and first.step - 1 <= p.first.step <= first.step]
    elsewhere = [p for p in pairs if p.first and component_of(p.first) != "update"]
    return next(iter([*near, *elsewhere]), None)


def _details(
    observed: CheckRuns, pair: RunPair, first: FirstDifference, closest: DetailedPair | None
) -> list[tuple[str, str]]:
    details = [("identical before it", covered_before(pair.compared.coverage))]
    details += _by_process(observed, pair)
    differing, total = first.same_kind
    if total > 1:
        kinds = kind_in_plural(first.event.kind)
        details.append(("in this step", f"{differing} of {total} {kinds} differ"))
    if closest is not None and closest.first is not None:
        details += _detailed_details(closest.first, closest.element, first)
    return [*details, *_generator_details(first), *_repeats(observed, first)]


def _detailed_details(
    near: FirstDifference, element: Difference | None, first: FirstDifference
) -> list[tuple[str, str]]:
    details = [("detailed recording", f"{when(near)}: {label(near)}")] if near != first else []
    details += [("optimizer", near.optimizer)] if near.optimizer else []
    return details + (element_details(element) if element is not None else [])


def _generator_details(first: FirstDifference) -> list[tuple[str, str]]:
    if first.generators:
        used = f"used: {', '.join(first.used)}" if first.used else ""
        used = "not used in this step" if first.unused else used
        names = ", ".join(first.generators)
        return [("generators that differ", "; ".join(filter(None, (names, used))))]
    if first.how == "digest":
        return [("generators", "all global generators are identical when the step begins")]
    return []


def _by_process(observed: CheckRuns, pair: RunPair) -> list[tuple[str, str]]:
    """The first divergence of each process, if there are several; the earliest is the origin."""
    pairs = [each for each in observed.pairs if each.b == pair.b]
    if len(pairs) == 1:
        return []
    firsts = [(each.process, each.compared.first) for each in pairs]
    texts = [f"{name}: {'identical' if first is None else when(first)}" for name, first in firsts]
    return [("first difference", some(texts, 8))]


def covered_before(coverage: Coverage) -> str:
    """The part that is identical before the difference."""
    if not coverage.steps:
        return (
            "the earlier events of step 0" if coverage.counts else "nothing: it is the first event"
        )
    return f"{counted(coverage.steps, 'step')}, {counted(len(coverage.parameters), 'parameter')}"


def element_details(difference: Difference) -> list[tuple[str, str]]:
    """The first element that differs, and the number of differing elements."""
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
    """How often pairs of runs diverge, and other places of the first difference."""
    pairs = [pair for pair in observed.detailed_pairs if pair.is_pair]
    places = [pair.first.step if pair.first else None for pair in pairs]
    if not places:
        return []
    runs = {pair.b for pair in observed.pairs}
    differing = {pair.b for pair in observed.pairs if pair.compared.first is not None}
    all_pairs = len(runs) + len(places)
    diverging = len(differing) + sum(place is not None for place in places)
    text = f"{diverging} of {all_pairs} pairs of runs diverge"
    elsewhere = [p for p in places if p is not None and not first.step - 1 <= p <= first.step]
    if elsewhere:
        text += f"; first in step {first.step} in one pair, in step {elsewhere[0]} in another"
    return [("reruns", text)]


def verdicts(observed: CheckRuns, conclusion: Conclusion) -> list[Verdict]:
    """The answer as verdicts, one per process and run."""
    expected = "identical bits in every run"
    if observed.trouble is not None or observed.unpaired or not observed.pairs:
        expected = f"{expected} and on all ranks" if conclusion.component == "ranks" else expected
        return [conclusion.verdict(CHECK, "the command", expected)]
    return [_pair_verdict(pair, expected, conclusion) for pair in observed.pairs]


def _pair_verdict(pair: RunPair, expected: str, conclusion: Conclusion) -> Verdict:
    subject, first = f"{pair.a} and {pair.b}: {pair.process}", pair.compared.first
    if first is not None:
        actual = f"first differs in {when(first)}, in {label(first)}"
        return failed(CHECK, subject, expected, actual, conclusion.hint)
    actual = covered(pair.compared.coverage)
    if conclusion.outcome == "inconclusive":
        return inconclusive(CHECK, subject, expected, actual, conclusion.hint)
    return passed(CHECK, subject, expected, actual)
