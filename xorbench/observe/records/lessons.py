"""The lessons: on what they were tried, and what was found."""

from typing import Any, Literal

from msgspec import Struct

from xorbench.observe.records.line import FolderInfo


class LessonRecord(Struct, frozen=True, kw_only=True):
    """One lesson: its statement, whether it holds, and the measurement."""

    lesson: str
    statement: str
    answer: Literal["holds", "does not hold", "cannot be tried here"]
    measured: str


class LessonsInfo(FolderInfo, frozen=True, kw_only=True):
    """`run.json` of the lessons: on what they were tried, and all that was found."""

    kind: str = "lessons"
    anonymous: bool = False
    host: dict[str, Any]
    machine: dict[str, Any]
    findings: list[LessonRecord]
    stopped: str | None = None
    finished: str
