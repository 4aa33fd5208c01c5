"""The results of a sweep: exact counts by batch size, and checks against golden values."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from xorbench.answers import CORRECT, FAST, IDENTICAL, Answer
from xorbench.records.schema.sweep import Chunk, Example, Known, SweepInfo
from xorbench.stats.intervals import quantile, wilson
from xorbench.verdicts import Verdict, failed, inconclusive, passed, skipped, some, worst

QUARTILES: Final = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))


@dataclass(eq=False, slots=True)
class Tally:
    """Counts of the seeds of one batch size, added chunk by chunk.

    Attributes:
        scores: number of seeds by final number of correct points.
        first_epochs: number of seeds by first epoch with every point correct.
        correct_after: number of all-correct seeds after each epoch.
        later_lost: number of seeds that were all correct, but not after some later epoch.
        rates: trained epochs and seconds of each chunk.
        first_correct: the smallest seed that ended all correct.
        worst: score and seed of the lowest final score.
        first: number of seeds with a golden combined digest, and number of all-correct ones.
        checked: digest and score of the seeds with golden values.
    """

    batch_size: int
    total: int
    epochs: int
    known: Known
    seeds: int = 0
    scores: Counter[int] = field(default_factory=Counter)
    first_epochs: Counter[int] = field(default_factory=Counter)
    correct_after: list[int] = field(default_factory=list)
    later_lost: int = 0
    rates: list[tuple[int, float]] = field(default_factory=list)
    first_correct: int | None = None
    worst: tuple[int, int] | None = None
    checked: dict[int, tuple[str, int]] = field(default_factory=dict)
    first: tuple[int, int] = (0, 0)
    _digest: Any = field(default_factory=hashlib.sha256)
    _first_digest: Any = field(default_factory=hashlib.sha256)

    def add(self, chunk: Chunk) -> None:
        """Count a chunk; chunks are added in the order of their seeds."""
        self.seeds += chunk.count
        self.scores.update(chunk.scores)
        self.first_epochs.update(epoch for epoch in chunk.first_epochs if epoch is not None)
        before = self.correct_after or [0] * self.epochs
        self.correct_after = [a + b for a, b in zip(before, chunk.right_after, strict=True)]
        self.later_lost += sum(lapses > 0 for lapses in chunk.lapses)
        self.rates.append((chunk.count * self.epochs, chunk.chunk_s))
        self._digest.update(bytes.fromhex("".join(chunk.sha256s)))
        self._add_seeds(chunk)

    def _add_seeds(self, chunk: Chunk) -> None:
        """Keep seeds with a golden value, the first all-correct seed and the worst seed."""
        wanted = {answer.seed for answer in self.known.answers}
        combined = self.known.combined
        for offset, (sha256, score) in enumerate(zip(chunk.sha256s, chunk.scores, strict=True)):
            seed, all_correct = chunk.first_seed + offset, score == self.total
            if all_correct and self.first_correct is None:
                self.first_correct = seed
            if not all_correct:
                self.worst = min(self.worst or (score, seed), (score, seed))
            if seed in wanted:
                self.checked[seed] = (sha256, score)
            if combined is not None and seed < combined.seeds:
                self.first = (self.first[0] + 1, self.first[1] + all_correct)
                self._first_digest.update(bytes.fromhex(sha256))

    @property
    def all_correct(self) -> int:
        """The number of seeds with every test point correct after the last epoch."""
        return self.scores[self.total]

    @property
    def reached(self) -> int:
        """The number of seeds with every test point correct after some epoch."""
        return self.first_epochs.total()

    @property
    def never(self) -> int:
        """The number of seeds without such an epoch."""
        return self.seeds - self.reached

    @property
    def lost_at_the_end(self) -> int:
        """The number of seeds that were all correct once, but not after the last epoch."""
        return self.reached - self.all_correct

    @property
    def combined_sha256(self) -> str:
        """The digest over all seeds in ascending order."""
        return str(self._digest.hexdigest())

    @property
    def first_sha256(self) -> str:
        """The digest over the seeds with a golden combined digest."""
        return str(self._first_digest.hexdigest())

    def quartiles(self) -> list[int | None]:
        """Quartiles of the first all-correct epoch over all seeds; `never` counts as last."""
        return [quantile(self.first_epochs, self.seeds, share) for share in QUARTILES]


@dataclass(frozen=True, slots=True, eq=False)
class SweepEvidence:
    """A sweep read from its files: its information, counts by batch size and examples."""

    info: SweepInfo
    tallies: Sequence[Tally]
    examples: Sequence[Example]

    @property
    def complete(self) -> bool:
        """Whether every planned seed was trained."""
        return all(tally.seeds == self.info.plan.seeds_count for tally in self.tallies)


def count(info: SweepInfo, chunks: Iterable[Chunk], examples: Sequence[Example]) -> SweepEvidence:
    """Count every chunk, with one in memory at a time."""
    recipe = info.plan.recipe
    known = {answers.batch_size: answers for answers in info.known}
    tallies = {
        size: Tally(size, recipe.test_size, recipe.epochs, known.get(size, Known(batch_size=size)))
        for size in info.plan.batch_sizes
    }
    for chunk in chunks:
        tallies[chunk.batch_size].add(chunk)
    return SweepEvidence(info, list(tallies.values()), examples)


def example_seeds(tallies: Sequence[Tally]) -> list[tuple[int, int]]:
    """Batch size and seed of a success and a failure, of the same batch size if possible."""
    ordered = sorted(tallies, key=lambda tally: None in (tally.first_correct, tally.worst))
    successes = [(t.batch_size, t.first_correct) for t in ordered if t.first_correct is not None]
    failures = [(t.batch_size, t.worst[1]) for t in ordered if t.worst is not None]
    return successes[:1] + failures[:1]


# The checks


def judge(evidence: SweepEvidence) -> list[Verdict]:
    """The verdicts of all checks on a sweep, in the order of `SWEEP_CHECKS`."""
    return [verdict for name, check in SWEEP_CHECKS.items() for verdict in check(name, evidence)]


def completion(name: str, evidence: SweepEvidence) -> Iterator[Verdict]:
    """Every seed is trained at every batch size, and no process dies."""
    info, planned = evidence.info, evidence.info.plan.seeds_count
    for tally in evidence.tallies:
        requirement = (name, _subject(tally), f"{planned} seeds trained")
        actual = f"{tally.seeds} trained"
        hint = f"continue with xorbench sweep --resume {info.id}"
        if tally.seeds == planned:
            yield passed(*requirement, actual)
        elif info.stopped:
            yield failed(*requirement, f"{actual}; {info.stopped}", hint)
        else:
            yield inconclusive(*requirement, actual, hint)
    for process in info.processes:
        if process.died:
            hint = f"see logs/{process.id}.log; if it was too slow, use a smaller --chunk"
            yield failed(name, f"process {process.id}", "finishes", process.died, hint)


def golden(name: str, evidence: SweepEvidence) -> Iterator[Verdict]:
    """Digest and score of every seed with golden values are equal to them."""
    for tally in evidence.tallies:
        answers = [a for a in tally.known.answers if a.seed in tally.checked]
        expected = f"the golden values of {len(answers)} seeds"
        wrong = [
            f"seed {a.seed}: {sha256[:16]} {score}/{tally.total},"
            f" golden is {a.sha256[:16]} {a.correct}/{tally.total}"
            for a in answers
            for sha256, score in [tally.checked[a.seed]]
            if (a.sha256, a.correct) != (sha256, score)
        ]
        if wrong:
            actual = some(wrong, separator="; ")
            yield failed(name, _subject(tally), expected, actual, GOLDEN_HINT)
        elif answers:
            yield passed(name, _subject(tally), expected, "equal")
        else:
            reason = "no golden values for this recipe and these seeds"
            yield skipped(name, _subject(tally), "golden values", reason)


def combined(name: str, evidence: SweepEvidence) -> Iterator[Verdict]:
    """Combined digest and number of all-correct seeds are golden, if all its seeds were trained."""
    for tally in evidence.tallies:
        known, (seeds, all_correct) = tally.known.combined, tally.first
        if known is None or seeds < known.seeds:
            continue
        golden_text = f"{known.sha256}, {known.all_right} all correct"
        actual = f"{tally.first_sha256}, {all_correct} all correct"
        expected = f"seeds 0-{known.seeds - 1}: {golden_text}"
        if actual == golden_text:
            yield passed(name, _subject(tally), expected, "equal")
        else:
            yield failed(name, _subject(tally), expected, actual, GOLDEN_HINT)


GOLDEN_HINT: Final = (
    "every healthy machine gives the golden values: suspect the hardware, or fused operations"
)
SWEEP_CHECKS: Final[dict[str, Callable[[str, SweepEvidence], Iterable[Verdict]]]] = {
    "completion": completion,
    "golden": golden,
    "golden combined": combined,
}


def answers(evidence: SweepEvidence, verdicts: Sequence[Verdict]) -> list[Answer]:
    """The answers to the three questions, with the number of seeds that learn the problem."""
    same = [v for v in verdicts if v.check.startswith("golden")]
    correctness = worst(verdicts)
    if worst(same) == "skipped" and correctness == "pass":
        correctness = "skipped"  # completion does not show that the results are correct
    learned = [part for part in (_first(verdicts), *map(_learned, evidence.tallies)) if part]
    return [
        Answer(CORRECT, correctness, "; ".join(learned)),
        Answer(IDENTICAL, worst(same), _first(same) or "; ".join(map(_golden, evidence.tallies))),
        Answer(FAST, "skipped", f"{_rates(evidence)}; not compared"),
    ]


def _learned(tally: Tally) -> str:
    """The number and share of seeds of a batch size that learned the problem."""
    if not tally.seeds:
        return f"{_subject(tally)}: no seed was trained"
    low, high = (100 * bound for bound in wilson(tally.all_correct, tally.seeds))
    share = f"{100 * tally.all_correct / tally.seeds:.4g}% [{low:.4g}, {high:.4g}]"
    return f"{_subject(tally)}: {tally.all_correct:,} of {tally.seeds:,} seeds learn it ({share})"


def _golden(tally: Tally) -> str:
    """The number of seeds with golden values, if all are equal to them."""
    seeds, combined = len(tally.checked), tally.known.combined
    whole = combined is not None and tally.first[0] == combined.seeds
    together = f", and seeds 0-{tally.first[0] - 1} combined" if whole else ""
    if not seeds:
        return f"{_subject(tally)}: no golden values"
    return f"{_subject(tally)}: golden values of {seeds} seeds{together}"


def _first(verdicts: Sequence[Verdict]) -> str:
    """Subject and result of the first of the worst verdicts; empty if all passed."""
    bad = [v for v in verdicts if v.outcome == worst(verdicts) != "pass"]
    return f"{bad[0].subject}: {bad[0].actual}" if bad else ""


def _rates(evidence: SweepEvidence) -> str:
    epochs = sum(epochs for tally in evidence.tallies for epochs, _ in tally.rates)
    seconds = sum(seconds for tally in evidence.tallies for _, seconds in tally.rates)
    return f"{epochs / seconds:,.0f} model-epochs/s" if seconds else "nothing was timed"


def _subject(tally: Tally) -> str:
    return f"batch {tally.batch_size}"
