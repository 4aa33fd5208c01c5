"""The lessons judged: a statement that does not hold here is a failed verdict."""

from collections.abc import Iterable
from typing import Final

from xorbench.judge.verdicts import Outcome, Verdict, failed
from xorbench.observe.records.lessons import LessonRecord, LessonsInfo

OUTCOMES: Final[dict[str, Outcome]] = {
    "holds": "pass",
    "does not hold": "fail",
    "cannot be tried here": "skipped",
}


def judge(info: LessonsInfo) -> list[Verdict]:
    """One verdict a lesson; where the process did not reach the end, one that says so."""
    return [*map(_verdict, info.findings), *_stopped(info)]


def _verdict(finding: LessonRecord) -> Verdict:
    return Verdict(
        check="lesson",
        subject=finding.lesson,
        outcome=OUTCOMES[finding.answer],
        expected=finding.statement,
        actual=finding.measured,
    )


def _stopped(info: LessonsInfo) -> Iterable[Verdict]:
    if info.stopped:
        expected, hint = "each lesson is tried", "see the logs/ folder"
        yield failed("completion", "lessons", expected, info.stopped, hint)
