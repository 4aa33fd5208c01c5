"""The questions of `check`: the same again, the same when resumed, the same as another command?"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from xorbench.commands import against, check, resume
from xorbench.commands.against import AgainstRequest
from xorbench.commands.check import CheckOutcome, CheckRequest
from xorbench.commands.resume import ResumeRequest
from xorbench.commands.run_maker import Note
from xorbench.plan.program_options import request

AnyRequest: TypeAlias = CheckRequest | AgainstRequest | ResumeRequest


def question(values: Mapping[str, Any], **program: Any) -> AnyRequest:
    """The request that the values of the options make; `program` is what is run, and where."""
    again = request(CheckRequest, values, **program)
    if values["against"] is not None:
        return request(AgainstRequest, values, check=again)
    if values["resume"] is not None:
        return request(ResumeRequest, values, check=again)
    return again


def plan(asked: AnyRequest) -> list[str]:
    """What will happen, in lines; raises `BadOption`."""
    match asked:
        case AgainstRequest():
            return against.plan(asked, against.prepared(asked))
        case ResumeRequest():
            return resume.plan(asked, check.prepared(asked.check))
        case CheckRequest():
            return check.plan(asked, check.prepared(asked))


def answer(asked: AnyRequest, note: Note) -> CheckOutcome:
    """Run the program, and answer. Raises `BadOption`."""
    match asked:
        case AgainstRequest():
            return against.check(asked, note)
        case ResumeRequest():
            return resume.check(asked, note)
        case CheckRequest():
            return check.check(asked, note)
