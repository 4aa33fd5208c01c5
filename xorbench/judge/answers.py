"""The three questions, each answered in one sentence from the verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xorbench.judge.evidence import Evidence
from xorbench.judge.stats import spread
from xorbench.observe.records import Outcome, Run, Verdict

RIGHT: Final = "Does it train right?"
SAME: Final = "Does it train the same?"
FAST: Final = "Does it train as fast as it should?"
# The question that a check belongs to; a check without a row asks whether it trains right.
QUESTIONS: Final = {
    "inputs": SAME,
    "rerun": SAME,
    "warm-up": SAME,
    "invariance": SAME,
    "speed": FAST,
    "compare": FAST,
}
WORDS: Final[dict[Outcome, str]] = {
    "pass": "Yes",
    "fail": "No",
    "inconclusive": "Not settled",
    "skipped": "Not judged",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One question, what it came to, and the sentence that says so."""

    question: str
    outcome: Outcome
    sentence: str

    @property
    def word(self) -> str:
        """Yes, no, or why neither."""
        return WORDS[self.outcome]


def answers(run: Run, verdicts: Sequence[Verdict]) -> list[Answer]:
    """The answers to all three."""
    evidence = Evidence(run)
    said = {RIGHT: _right(evidence), SAME: _same(evidence, verdicts), FAST: _fast(evidence)}
    return [_answer(question, passed, verdicts) for question, passed in said.items()]


def _answer(question: str, passed: str, verdicts: Sequence[Verdict]) -> Answer:
    mine = [v for v in verdicts if QUESTIONS.get(v.check, RIGHT) == question]
    outcome = worst(mine)
    if outcome in ("fail", "inconclusive"):
        bad = [v for v in mine if v.outcome == outcome]
        first = f"{bad[0].check} of {bad[0].subject}: {bad[0].actual}"
        which = "failed" if outcome == "fail" else "are open"
        return Answer(question, outcome, f"{len(bad)} of {len(mine)} checks {which}; {first}")
    return Answer(question, outcome, passed)


def worst(verdicts: Sequence[Verdict]) -> Outcome:
    """The outcome that counts: a failure before anything open, a pass before what was skipped."""
    outcomes = {verdict.outcome for verdict in verdicts}
    order: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
    return next((outcome for outcome in order if outcome in outcomes), "skipped")


def _right(evidence: Evidence) -> str:
    tests = [training.test for training in evidence.run.trainings]
    if not tests:
        return "nothing was trained"
    points = "; ".join(dict.fromkeys(f"{test.correct} of {test.total}" for test in tests))
    return (
        f"{points} test points right in each of {len(tests)} trainings"
        f" ({len(evidence.subjects)} cases)"
    )


def _same(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    passed = [v.check for v in verdicts if v.outcome == "pass"]
    reruns, changes = passed.count("rerun"), passed.count("invariance")
    parts = []
    if reruns:
        parts.append(
            f"{reruns} cases gave the same bits in {evidence.run.info.repeats} fresh processes each"
        )
    if changes:
        parts.append(f"{changes} changes of a setting did to the bits what they must")
    return ", and ".join(parts) or "there was nothing to compare with: try --repeats 2"


def _fast(evidence: Evidence) -> str:
    if not evidence.subjects:
        return "nothing was trained"
    speeds = {
        subject: subject.recipe.samples(subject.case.batch_size, subject.case.drop_last)
        / spread(evidence.first(subject).epoch_s).median
        for subject in evidence.subjects
    }
    slow, fast = min(speeds, key=lambda s: speeds[s]), max(speeds, key=lambda s: speeds[s])
    return (
        f"{speeds[slow]:,.0f} to {speeds[fast]:,.0f} samples/s by case (medians of one process);"
        " intervals and ratios stand below, a baseline to hold them to was not given"
    )
