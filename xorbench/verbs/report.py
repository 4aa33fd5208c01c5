"""`report`: make the tables of a run or a sweep again, from its files alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from xorbench.errors import BadFile
from xorbench.observe import store as files
from xorbench.observe.store import RunStore
from xorbench.verbs import lessons, run, sweep
from xorbench.verbs.files import Outcome, write_reports

JUDGED: Final[dict[object, Callable[[Path], Outcome]]] = {
    "sweep": sweep.judged,
    "lessons": lessons.judged,
}
"""How a folder is judged, by its kind; one of another kind is a run, or says that it is none."""


def report(root: Path, text: str) -> tuple[Outcome, str]:
    """Judge a run anew and rewrite its reports; the text says why where they cannot be written."""
    folder = files.find(root, text)
    outcome = JUDGED.get(files.kind_of(folder), run.judged)(folder)
    trouble = ""
    try:
        write_reports(
            RunStore(folder, anonymous=outcome.content.anonymous, lock=False), outcome.content
        )
    except BadFile as error:
        trouble = error.message
    return outcome, trouble
