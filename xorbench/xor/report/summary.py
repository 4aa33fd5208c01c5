"""The three questions, each answered in one sentence from the verdicts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from xorbench.answers import CORRECT, FAST, IDENTICAL, Answer
from xorbench.machine.quiet import trouble
from xorbench.records.baselines import flaw_of
from xorbench.verdicts import Verdict, capitalized, worst
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.precision import reached
from xorbench.xor.analysis.speed import samples_per_s
from xorbench.xor.checks import CHECKS
from xorbench.xor.compare.baseline import WithBaseline

NOT_COMPARED: Final = "there was nothing to compare with: try --processes 2"


def answers(
    evidence: Evidence, verdicts: Sequence[Verdict], baseline: WithBaseline | None = None
) -> list[Answer]:
    """The answers to all three questions; a baseline answers the question of speed."""
    sentences = {CORRECT: _right(evidence), IDENTICAL: _same(evidence, verdicts)}
    judged = [_answer(question, passed, verdicts) for question, passed in sentences.items()]
    judged = [_counted(answer, evidence) for answer in judged]
    return [*judged, _judged_fast(evidence, verdicts, baseline)]


def _judged_fast(
    evidence: Evidence, verdicts: Sequence[Verdict], baseline: WithBaseline | None
) -> Answer:
    speeds = _fast(evidence)
    if baseline is not None:
        sentence = f"{capitalized(baseline.sentence)}; {speeds}"
        return Answer(FAST, baseline.comparison.outcome, sentence)
    how = "" if flaw_of(evidence.run) else " (baseline save NAME saves this run as one)"
    return _answer(FAST, f"{speeds}; not compared with a baseline{how}", verdicts)


def _counted(answer: Answer, evidence: Evidence) -> Answer:
    """The answer, but not a pass if points are wrong or no trainings were compared."""
    wrong = any(t.test.correct != t.test.total for t in evidence.run.trainings)
    if answer.question == CORRECT and answer.outcome == "pass" and wrong:
        return replace(answer, outcome="fail")
    if answer.outcome == "pass" and answer.sentence == NOT_COMPARED:
        return replace(answer, outcome="skipped")
    return answer


def _answer(question: str, passed: str, verdicts: Sequence[Verdict]) -> Answer:
    own = [v for v in verdicts if question_of(v.check) == question]
    outcome = worst(own)
    if outcome in ("fail", "inconclusive"):
        bad = [v for v in own if v.outcome == outcome]
        first = f"{bad[0].check} of {bad[0].subject}: {bad[0].actual}"
        which = "failed" if outcome == "fail" else "are inconclusive"
        return Answer(question, outcome, f"{len(bad)} of {len(own)} checks {which}; {first}")
    return Answer(question, outcome, passed)


def question_of(check: str) -> str:
    """The question that a check belongs to, whichever command judged it."""
    if check in CHECKS:
        return CHECKS[check].question
    return FAST if check in ("speed", "compare", "machine") else CORRECT


def _right(evidence: Evidence) -> str:
    tests = [training.test for training in evidence.run.trainings]
    if not tests:
        return "nothing was trained"
    points = "; ".join(dict.fromkeys(f"{test.correct} of {test.total}" for test in tests))
    return (
        f"{points} test points correct in each of {len(tests)} trainings"
        f" ({len(evidence.variants)} cases)"
    )


def _same(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    passed = [v.check for v in verdicts if v.outcome == "pass"]
    reruns, changes = passed.count("rerun"), passed.count("invariance")
    parts = []
    if reruns:
        count = evidence.run.info.processes_per_config
        parts.append(f"{reruns} cases bitwise identical in {count} fresh processes each")
    if changes:
        changed = f"{changes} change{'s' if changes > 1 else ''} of a setting"
        parts.append(f"{changed} kept or changed the bits as required")
    return ", and ".join(parts) or NOT_COMPARED


def _fast(evidence: Evidence) -> str:
    if not evidence.variants:
        return "nothing was trained"
    speeds = list(samples_per_s(evidence).values())
    if not speeds:
        return "all times are invalid: see the clock check"
    slow, fast = (pick(speeds, key=lambda speed: speed.value) for pick in (min, max))
    shown = [speed.text(",.0f") for speed in dict.fromkeys((slow, fast))]
    intervals = "95% intervals" if slow.low is not None else "one process, so without intervals"
    if precision := reached(evidence):
        intervals = f"{intervals} {precision}"
    which = f"slowest and fastest case, {intervals}" if len(shown) > 1 else intervals
    disturbed = "; ".join(trouble(evidence.run.system_samples))
    quiet = f"; the machine was not quiet: {disturbed}" if disturbed else ""
    return f"{' to '.join(shown)} samples/s ({which}){quiet}"
