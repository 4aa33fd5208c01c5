"""`check --from`: the records of a check judged again, without running anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xorbench.commands import check_folder
from xorbench.commands.against import AgainstRequest
from xorbench.commands.check import CheckRequest
from xorbench.commands.experiment import EVERY_RUN, ExperimentOutcome, Question, ask_again
from xorbench.commands.resume import ResumeRequest
from xorbench.errors import BadFile

# The questions about more than one command, by the entry of `check.json` that only each has.
QUESTIONS: Final[Mapping[str, type[ResumeRequest | AgainstRequest]]] = {
    "resume": ResumeRequest,
    "against": AgainstRequest,
}


def from_folder(folder: Path, *, anonymous: bool = False) -> ExperimentOutcome:
    """Judge the records of a check of any kind, made anonymous if asked; raises `BadFile`."""
    if anonymous:
        check_folder.make_anonymous(folder)
    saved = check_folder.read_saved(folder)
    if not check_folder.has_runs(folder):
        raise BadFile(f"{str(folder)[:200]}: holds no run: the check was stopped before its first")
    return ask_again(_question(saved), folder, anonymous=saved.get("anonymous", False))


def _question(saved: dict[str, Any]) -> Question:
    words = tuple(saved["words"])
    request = CheckRequest(
        words,
        target=None if words else saved["command"],
        processes=EVERY_RUN,
        steps=saved["steps"],
        anonymous=saved.get("anonymous", False),
    )
    kinds = (kind for key, kind in QUESTIONS.items() if key in saved)
    kind = next(kinds, None)
    return request if kind is None else kind.from_saved(saved, request)
