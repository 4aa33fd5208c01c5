"""What a sweep's chunks come to: exact counts for each batch size, and what they must equal."""

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
    """The seeds of one batch size so far, counted chunk by chunk; no seed is kept but by count.

    Attributes:
        scores: how many seeds ended with so many right answers.
        first_epochs: how many were all right for the first time after that epoch.
        right_after: after each epoch, how many were all right.
        later_lost: how many were all right once and not after some later epoch.
        rates: trained epochs and the seconds they took, chunk by chunk.
        first_right: the least seed that ended all right.
        worst: score and seed of the one that ended furthest from it.
        first: of the seeds with a golden combined answer: how many, and how many ended all right.
        checked: digest and score of the seeds whose golden answers are known.
    """

    batch_size: int
    total: int
    epochs: int
    known: Known
    seeds: int = 0
    scores: Counter[int] = field(default_factory=Counter)
    first_epochs: Counter[int] = field(default_factory=Counter)
    right_after: list[int] = field(default_factory=list)
    later_lost: int = 0
    rates: list[tuple[int, float]] = field(default_factory=list)
    first_right: int | None = None
    worst: tuple[int, int] | None = None
    checked: dict[int, tuple[str, int]] = field(default_factory=dict)
    first: tuple[int, int] = (0, 0)
    _digest: Any = field(default_factory=hashlib.sha256)
    _first_digest: Any = field(default_factory=hashlib.sha256)

    def add(self, chunk: Chunk) -> None:
        """Count a chunk; chunks come in the order of their seeds."""
        self.seeds += chunk.count
        self.scores.update(chunk.scores)
        self.first_epochs.update(epoch for epoch in chunk.first_epochs if epoch is not None)
        before = self.right_after or [0] * self.epochs
        self.right_after = [a + b for a, b in zip(before, chunk.right_after, strict=True)]
        self.later_lost += sum(lapses > 0 for lapses in chunk.lapses)
        self.rates.append((chunk.count * self.epochs, chunk.chunk_s))
        self._digest.update(bytes.fromhex("".join(chunk.sha256s)))
        self._add_seeds(chunk)

    def _add_seeds(self, chunk: Chunk) -> None:
        """Keep the seeds that are named: with a golden answer, first right, furthest from it."""
        wanted = {answer.seed for answer in self.known.answers}
        combined = self.known.combined
        for offset, (sha256, score) in enumerate(zip(chunk.sha256s, chunk.scores, strict=True)):
            seed, right = chunk.first_seed + offset, score == self.total
            if right and self.first_right is None:
                self.first_right = seed
            if not right:
                self.worst = min(self.worst or (score, seed), (score, seed))
            if seed in wanted:
                self.checked[seed] = (sha256, score)
            if combined is not None and seed < combined.seeds:
                self.first = (self.first[0] + 1, self.first[1] + right)
                self._first_digest.update(bytes.fromhex(sha256))

    @property
    def all_right(self) -> int:
        """How many seeds ended right on every test point."""
        return self.scores[self.total]

    @property
    def reached(self) -> int:
        """How many were right on every test point after some epoch."""
        return self.first_epochs.total()

    @property
    def never(self) -> int:
        """How many were not, after any epoch."""
        return self.seeds - self.reached

    @property
    def lost_at_the_end(self) -> int:
        """How many were once all right, and not after the last epoch."""
        return self.reached - self.all_right

    @property
    def combined_sha256(self) -> str:
        """One digest for all the seeds, in ascending order."""
        return str(self._digest.hexdigest())

    @property
    def first_sha256(self) -> str:
        """One digest for the seeds with a golden combined answer."""
        return str(self._first_digest.hexdigest())

    def quartiles(self) -> list[int | None]:
        """Of all seeds' first epochs; one that never got there comes after every other."""
        return [quantile(self.first_epochs, self.seeds, share) for share in QUARTILES]


@dataclass(frozen=True, slots=True, eq=False)
class SweepEvidence:
    """A sweep as it was read back: what it was, its counts by batch size, its pictures."""

    info: SweepInfo
    tallies: Sequence[Tally]
    examples: Sequence[Example]

    @property
    def complete(self) -> bool:
        """Whether every seed of the plan was trained."""
        return all(tally.seeds == self.info.plan.seeds_count for tally in self.tallies)


def count(info: SweepInfo, chunks: Iterable[Chunk], examples: Sequence[Example]) -> SweepEvidence:
    """Count every chunk, holding one of them at a time."""
    recipe = info.plan.recipe
    known = {answers.batch_size: answers for answers in info.known}
    tallies = {
        size: Tally(size, recipe.test_size, recipe.epochs, known.get(size, Known(batch_size=size)))
        for size in info.plan.batch_sizes
    }
    for chunk in chunks:
        tallies[chunk.batch_size].add(chunk)
    return SweepEvidence(info, list(tallies.values()), examples)


def worth_showing(tallies: Sequence[Tally]) -> list[tuple[int, int]]:
    """Batch size and seed of one success and of one failure, of one batch size if any has both."""
    ordered = sorted(tallies, key=lambda tally: None in (tally.first_right, tally.worst))
    right = [(t.batch_size, t.first_right) for t in ordered if t.first_right is not None]
    wrong = [(t.batch_size, t.worst[1]) for t in ordered if t.worst is not None]
    return right[:1] + wrong[:1]


# The checks


def judge(evidence: SweepEvidence) -> list[Verdict]:
    """Every check's verdicts on a sweep, in the order of `SWEEP_CHECKS`."""
    return [verdict for name, check in SWEEP_CHECKS.items() for verdict in check(name, evidence)]


def completion(name: str, evidence: SweepEvidence) -> Iterator[Verdict]:
    """Every seed is trained at every batch size, and no process dies."""
    info, planned = evidence.info, evidence.info.plan.seeds_count
    for tally in evidence.tallies:
        facts = (name, _subject(tally), f"{planned} seeds trained")
        actual = f"{tally.seeds} trained"
        hint = f"python -m xorbench sweep --resume {info.id} goes on"
        if tally.seeds == planned:
            yield passed(*facts, actual)
        elif info.stopped:
            yield failed(*facts, f"{actual}; {info.stopped}", hint)
        else:
            yield inconclusive(*facts, actual, hint)
    for process in info.processes:
        if process.died:
            hint = f"see logs/{process.id}.log; where it was too slow, a smaller --chunk helps"
            yield failed(name, f"process {process.id}", "runs to the end", process.died, hint)


def golden(name: str, evidence: SweepEvidence) -> Iterator[Verdict]:
    """Digest and score of every seed with a golden answer are that answer."""
    for tally in evidence.tallies:
        answers = [a for a in tally.known.answers if a.seed in tally.checked]
        expected = f"the golden answers of {len(answers)} seeds"
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
            yield passed(name, _subject(tally), expected, "they are")
        else:
            reason = "none is known for this recipe and these seeds"
            yield skipped(name, _subject(tally), "golden answers", reason)


def combined(name: str, evidence: SweepEvidence) -> Iterator[Verdict]:
    """The golden combined digest, and how many are right, where all its seeds were trained."""
    for tally in evidence.tallies:
        known, (seeds, all_right) = tally.known.combined, tally.first
        if known is None or seeds < known.seeds:
            continue
        right = f"{known.sha256}, {known.all_right} all right"
        actual = f"{tally.first_sha256}, {all_right} all right"
        expected = f"seeds 0-{known.seeds - 1}: {right}"
        if actual == right:
            yield passed(name, _subject(tally), expected, "they are")
        else:
            yield failed(name, _subject(tally), expected, actual, GOLDEN_HINT)


GOLDEN_HINT: Final = (
    "every sound machine gives the golden bits: suspect the hardware, or fused operations"
)
SWEEP_CHECKS: Final[dict[str, Callable[[str, SweepEvidence], Iterable[Verdict]]]] = {
    "completion": completion,
    "golden": golden,
    "golden combined": combined,
}


def answers(evidence: SweepEvidence, verdicts: Sequence[Verdict]) -> list[Answer]:
    """Whether the machine trains right and the same, and how fast; how many seeds learn it."""
    same = [v for v in verdicts if v.check.startswith("golden")]
    right = worst(verdicts)
    if worst(same) == "skipped" and right == "pass":
        right = "skipped"  # that every seed was trained says nothing of what came of it
    learned = [part for part in (_first(verdicts), *map(_learned, evidence.tallies)) if part]
    return [
        Answer(CORRECT, right, "; ".join(learned)),
        Answer(IDENTICAL, worst(same), _first(same) or "; ".join(map(_golden, evidence.tallies))),
        Answer(FAST, "skipped", f"{_rates(evidence)}; compared with nothing"),
    ]


def _learned(tally: Tally) -> str:
    """How many seeds of a batch size learned the problem."""
    if not tally.seeds:
        return f"{_subject(tally)}: no seed was trained"
    low, high = (100 * bound for bound in wilson(tally.all_right, tally.seeds))
    share = f"{100 * tally.all_right / tally.seeds:.4g}% [{low:.4g}, {high:.4g}]"
    return f"{_subject(tally)}: {tally.all_right:,} of {tally.seeds:,} seeds learn it ({share})"


def _golden(tally: Tally) -> str:
    """Of how many seeds the golden bits came out, where all did."""
    seeds, combined = len(tally.checked), tally.known.combined
    whole = combined is not None and tally.first[0] == combined.seeds
    together = f", and of seeds 0-{tally.first[0] - 1} together" if whole else ""
    if not seeds:
        return f"{_subject(tally)}: no golden bits are known"
    return f"{_subject(tally)}: the golden bits of {seeds} seeds{together}"


def _first(verdicts: Sequence[Verdict]) -> str:
    """Subject and finding of the first of the worst verdicts; empty where all passed."""
    bad = [v for v in verdicts if v.outcome == worst(verdicts) != "pass"]
    return f"{bad[0].subject}: {bad[0].actual}" if bad else ""


def _rates(evidence: SweepEvidence) -> str:
    epochs = sum(epochs for tally in evidence.tallies for epochs, _ in tally.rates)
    seconds = sum(seconds for tally in evidence.tallies for _, seconds in tally.rates)
    return f"{epochs / seconds:,.0f} model-epochs/s" if seconds else "nothing was timed"


def _subject(tally: Tally) -> str:
    return f"batch {tally.batch_size}"
