"""The questions of `check`: the same again, the same when resumed, the same as another command?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xorbench.errors import BadFile
from xorbench.extras import require
from xorbench.options.option_text import option_text
from xorbench.options.program_options import request
from xorbench.programs import check_folder
from xorbench.programs.experiment import EVERY_RUN, ExperimentOutcome, Question, ask_again
from xorbench.programs.questions.against import AgainstRequest
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.questions.resume import ResumeRequest

# The questions about more than one command, by the option, and the entry of `check.json`, that
# only each has; else it is that of a rerun.
QUESTIONS: Final[Mapping[str, type[ResumeRequest | AgainstRequest]]] = {
    "resume": ResumeRequest,
    "against": AgainstRequest,
}


def question(values: Mapping[str, Any], **program: Any) -> Question:
    """The question that the values of the options ask of `program`, a command and its folder."""
    rerun = request(CheckRequest, values, **program)
    kind = _kind(values)
    if kind is None:
        return rerun
    several = request(kind, values, check=rerun)
    if isinstance(several, AgainstRequest) and several.speed:
        require(option_text("{against} without {bits_only}"), "speed")
    return several


def answer_again(folder: Path, *, anonymous: bool = False) -> ExperimentOutcome:
    """Judge the records of a check of any kind, made anonymous if asked; raises `BadFile`."""
    if anonymous:
        check_folder.make_anonymous(folder)
    saved = check_folder.read_saved(folder)
    if not check_folder.has_runs(folder):
        raise BadFile(f"{str(folder)[:200]}: holds no run: the check was stopped before its first")
    return ask_again(_saved_question(saved), folder, anonymous=saved.get("anonymous", False))


def _saved_question(saved: dict[str, Any]) -> Question:
    words = tuple(saved["words"])
    rerun = CheckRequest(
        words,
        target=None if words else saved["command"],
        processes=EVERY_RUN,
        steps=saved["steps"],
        anonymous=saved.get("anonymous", False),
    )
    kind = _kind(saved)
    return rerun if kind is None else kind.from_saved(saved, rerun)


def _kind(values: Mapping[str, Any]) -> type[ResumeRequest | AgainstRequest] | None:
    """The question that has a value; None for that of a rerun."""
    kinds = (kind for name, kind in QUESTIONS.items() if values.get(name) is not None)
    return next(kinds, None)
