"""The three questions, each answered in one sentence from the verdicts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from xorbench.answers import FAST, RIGHT, SAME, Answer
from xorbench.machine.quiet import trouble
from xorbench.records.baselines import flaw_of
from xorbench.verdicts import Verdict, capitalized, worst
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.precision import reached
from xorbench.xor.analysis.speed import samples_per_s
from xorbench.xor.checks import CHECKS
from xorbench.xor.compare.baseline import WithBaseline

ALONE: Final = "there was nothing to compare with: try --processes 2"


def answers(
    evidence: Evidence, verdicts: Sequence[Verdict], baseline: WithBaseline | None = None
) -> list[Answer]:
    """The answers to all three; that of speed is the baseline's where there is one."""
    sentences = {RIGHT: _right(evidence), SAME: _same(evidence, verdicts)}
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
    how = "" if flaw_of(evidence.run) else " (baseline save NAME keeps this run as one)"
    return _answer(FAST, f"{speeds}; compared with no baseline{how}", verdicts)


def _counted(answer: Answer, evidence: Evidence) -> Answer:
    """The answer, but no yes where points are wrong, or where no two trainings were compared."""
    wrong = any(t.test.correct != t.test.total for t in evidence.run.trainings)
    if answer.question == RIGHT and answer.outcome == "pass" and wrong:
        return replace(answer, outcome="fail")
    if answer.outcome == "pass" and answer.sentence == ALONE:
        return replace(answer, outcome="skipped")
    return answer


def _answer(question: str, passed: str, verdicts: Sequence[Verdict]) -> Answer:
    own = [v for v in verdicts if question_of(v.check) == question]
    outcome = worst(own)
    if outcome in ("fail", "inconclusive"):
        bad = [v for v in own if v.outcome == outcome]
        first = f"{bad[0].check} of {bad[0].subject}: {bad[0].actual}"
        which = "failed" if outcome == "fail" else "are open"
        return Answer(question, outcome, f"{len(bad)} of {len(own)} checks {which}; {first}")
    return Answer(question, outcome, passed)


def question_of(check: str) -> str:
    """The question that a check belongs to, whichever command judged it."""
    if check in CHECKS:
        return CHECKS[check].question
    return FAST if check in ("speed", "compare", "machine") else RIGHT


def _right(evidence: Evidence) -> str:
    tests = [training.test for training in evidence.run.trainings]
    if not tests:
        return "nothing was trained"
    points = "; ".join(dict.fromkeys(f"{test.correct} of {test.total}" for test in tests))
    return (
        f"{points} test points right in each of {len(tests)} trainings"
        f" ({len(evidence.variants)} cases)"
    )


def _same(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    passed = [v.check for v in verdicts if v.outcome == "pass"]
    reruns, changes = passed.count("rerun"), passed.count("invariance")
    parts = []
    if reruns:
        count = evidence.run.info.processes_per_config
        parts.append(f"{reruns} cases gave the same bits in {count} fresh processes each")
    if changes:
        changed = (
            "1 change of a setting did" if changes == 1 else f"{changes} changes of a setting did"
        )
        parts.append(f"{changed} to the bits what {'it' if changes == 1 else 'they'} must")
    return ", and ".join(parts) or ALONE


def _fast(evidence: Evidence) -> str:
    if not evidence.variants:
        return "nothing was trained"
    speeds = list(samples_per_s(evidence).values())
    if not speeds:
        return "no time can be believed: see the clock check"
    slow, fast = (pick(speeds, key=lambda speed: speed.value) for pick in (min, max))
    shown = [speed.text(",.0f") for speed in dict.fromkeys((slow, fast))]
    sure = "95% intervals" if slow.low is not None else "one process, so without intervals"
    if precision := reached(evidence):
        sure = f"{sure} {precision}"
    which = f"slowest and fastest case, {sure}" if len(shown) > 1 else sure
    disturbed = "; ".join(trouble(evidence.run.system_samples))
    quiet = f"; the machine was not quiet: {disturbed}" if disturbed else ""
    return f"{' to '.join(shown)} samples/s ({which}){quiet}"
