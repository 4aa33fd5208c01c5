"""`check --from`: the records of a check judged again, without running anything."""

from pathlib import Path

from xorbench.commands import against, check, resume
from xorbench.commands.check import CheckOutcome
from xorbench.errors import BadFile


def from_folder(folder: Path) -> CheckOutcome:
    """Judge the records of a check of any kind; raises `BadFile`."""
    saved = check.read_saved(folder)
    if not check.has_runs(folder):
        raise BadFile(f"{str(folder)[:200]}: holds no run: the check was stopped before its first")
    if "resume" in saved:
        return resume.judged_again(folder, saved)
    if "against" in saved:
        return against.judged_again(folder, saved)
    return check.judged_again(folder, saved)
