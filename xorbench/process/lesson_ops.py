"""What a process can be asked to do for the lessons."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from xorbench.lessons.registry import LESSONS
from xorbench.process.operations import SESSION, Session, configure

__all__ = ["OPERATIONS", "SESSION"]


def index(_session: Session) -> dict[str, Any]:
    """The lessons that there are: name and statement, in order."""
    return {"lessons": [[lesson.name, lesson.statement] for lesson in LESSONS.values()]}


def learn(_session: Session, *, lesson: str) -> dict[str, Any]:
    """Try one lesson; answers whether it holds, and what was measured."""
    return asdict(LESSONS[lesson].try_it())


OPERATIONS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "configure": configure,
    "index": index,
    "learn": learn,
}
