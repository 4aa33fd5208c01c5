"""The folder of a check: its creation, and its request in `check.json`."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from xorbench.errors import BadFile, BadOption, why
from xorbench.options.option_text import option_text
from xorbench.programs.request import CommandRequest
from xorbench.records.cleaning import clean
from xorbench.records.files import decoded, is_file, read_bytes, write_whole
from xorbench.records.folders import new_folder
from xorbench.records.redaction import local_names, shown_words, texts

SCHEMA_VERSION: Final = 1


@contextmanager
def records_folder(request: CommandRequest) -> Iterator[Path]:
    """A new folder for the records; bad input that prevents every run removes it."""
    parents = (request.root / "checks", request.root, *request.root.parents)
    created = [path for path in parents if not path.exists()]
    try:
        folder = new_folder(request.root / "checks", request.name)
    except OSError as error:
        message = "{out}: cannot write to {root}: {why}"
        raise BadOption(option_text(message, root=request.root, why=why(error))) from None
    try:
        yield folder
    except (BadOption, BadFile) as error:
        if isinstance(error, BadFile) and has_runs(folder):
            raise
        shutil.rmtree(folder)
        with suppress(OSError):  # another check has created its folder there
            for path in created:
                path.rmdir()
        raise


def has_runs(folder: Path) -> bool:
    """Whether the folder has a finished run."""
    return any(folder.glob("*/ended.json"))


def save_request(folder: Path, request: CommandRequest, question: Mapping[str, Any]) -> None:
    """Store the request without secrets; `question` has the entries that the question adds."""
    saved = {
        "schema_version": SCHEMA_VERSION,
        "kind": "check",
        "command": request.command,
        "words": shown_words(request.words),
        "steps": request.steps,
        "files": request.files,
        "anonymous": request.anonymous,
        **question,
    }
    _write_saved(folder, saved)


def _write_saved(folder: Path, saved: dict[str, Any]) -> None:
    if saved["anonymous"]:
        saved = {**texts(saved, local_names().masked), "kind": saved["kind"]}
    write_whole(folder / "check.json", msgspec.json.encode(saved))


def read_saved(folder: Path) -> dict[str, Any]:
    """The request that `save_request` stored; raises `BadFile` for a different file."""
    path = folder / "check.json"
    if not is_file(path):
        raise BadFile(f"{str(path)[:200]}: no such file", "--from needs the folder of a check")
    saved = decoded(read_bytes(path), dict[str, Any], path)
    if saved.get("schema_version") != SCHEMA_VERSION or saved.get("kind") != "check":
        raise BadFile(f"{path}: not a check that this version of xorbench reads")
    return saved


def make_anonymous(folder: Path) -> None:
    """Remove names and absolute paths from the files of a finished check."""
    _write_saved(folder, {**read_saved(folder), "anonymous": True})
    for path in folder.rglob("ended.json"):
        clean(path.parent, (), os.environ, local_names())
