"""`check --from`: the records of a check judged again, without running anything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from xorbench.commands import against, check, resume
from xorbench.commands.check import CheckOutcome
from xorbench.errors import BadFile


def from_folder(folder: Path, *, anonymous: bool = False) -> CheckOutcome:
    """Judge the records of a check of any kind, made anonymous if asked; raises `BadFile`."""
    if anonymous:
        check.make_anonymous(folder)
    saved = check.read_saved(folder)
    return replace(_judged(folder, saved), anonymous=saved.get("anonymous", False))


def _judged(folder: Path, saved: dict[str, Any]) -> CheckOutcome:
    if not check.has_runs(folder):
        raise BadFile(f"{str(folder)[:200]}: holds no run: the check was stopped before its first")
    if "resume" in saved:
        return resume.judged_again(folder, saved)
    if "against" in saved:
        return against.judged_again(folder, saved)
    return check.judged_again(folder, saved)
