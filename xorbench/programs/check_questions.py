"""The questions of `check`: reproducible, resumed, identical to a command, correct operators?"""

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
from xorbench.programs.questions.operators import OperatorsRequest
from xorbench.programs.questions.ranks import (
    RankResumeRequest,
    RanksRequest,
    starts_other_ranks,
)
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.questions.resume import ResumeRequest
from xorbench.programs.questions.rounding import RoundingRequest

Kind = type[
    ResumeRequest
    | AgainstRequest
    | RoundingRequest
    | OperatorsRequest
    | RanksRequest
    | RankResumeRequest
]
# The questions that are not about reruns, by the option, and entry of `check.json`, that selects
# them; without one the question is that of a rerun.
QUESTIONS: Final[Mapping[str, Kind]] = {
    "resume_ranks": RankResumeRequest,
    "resume": ResumeRequest,
    "up_to_rounding": RoundingRequest,
    "against": AgainstRequest,
    "operators": OperatorsRequest,
    "ranks": RanksRequest,
}


def question(values: Mapping[str, Any], **program: Any) -> Question:
    """The question that the option values select; `program` is a command and its folder."""
    rerun = request(CheckRequest, values, **program)
    kind: Kind | None = _kind(values)
    if kind is None:
        return rerun
    on_other_ranks = kind is ResumeRequest and starts_other_ranks(rerun.words, values["resume"])
    if on_other_ranks and values["kill_after"] is not None and not values["kill_in_save"]:
        kind = RankResumeRequest
    several = request(kind, values, check=rerun)
    if isinstance(several, AgainstRequest) and several.speed:
        require(option_text("{against} without {bits_only}"), "speed")
    return several


def answer_again(folder: Path, *, anonymous: bool = False) -> ExperimentOutcome:
    """Judge the records of any check again, made anonymous if requested; raises `BadFile`."""
    if anonymous:
        check_folder.make_anonymous(folder)
    saved = check_folder.read_saved(folder)
    if not check_folder.has_runs(folder):
        raise BadFile(
            f"{str(folder)[:200]}: no finished run: the check was stopped during its first run"
        )
    return ask_again(_saved_question(saved), folder, anonymous=saved.get("anonymous", False))


def _saved_question(saved: dict[str, Any]) -> Question:
    words = tuple(saved["words"])
    rerun = CheckRequest(
        words,
        target=None if words else saved["command"],
        processes=EVERY_RUN,
        steps=saved["steps"],
        files=saved.get("files", False),
        anonymous=saved.get("anonymous", False),
    )
    kind = _kind(saved)
    return rerun if kind is None else kind.from_saved(saved, rerun)


def _kind(values: Mapping[str, Any]) -> Kind | None:
    """The question that has a value; None for a rerun."""
    kinds = (kind for name, kind in QUESTIONS.items() if values.get(name))
    return next(kinds, None)
