"""The lessons: on what they were tried, and what was found."""

from typing import Any, Literal

from msgspec import Struct

from xorbench.observe.records.line import SCHEMA_VERSION


class LessonRecord(Struct, frozen=True, kw_only=True):
    """One lesson: its statement, whether it holds, and the measurement."""

    lesson: str
    statement: str
    answer: Literal["holds", "does not hold", "cannot be tried here"]
    measured: str


class LessonsInfo(Struct, frozen=True, kw_only=True):
    """`run.json` of the lessons: on what they were tried, and all that was found."""

    schema_version: int = SCHEMA_VERSION
    kind: str = "lessons"
    xorbench_version: str
    id: str
    name: str | None = None
    command: str
    started: str
    anonymous: bool = False
    host: dict[str, Any]
    machine: dict[str, Any]
    findings: list[LessonRecord]
    stopped: str | None = None
    finished: str
