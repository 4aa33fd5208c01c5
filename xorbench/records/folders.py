"""The folders of runs in a results folder, and how to find them."""

import contextlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from xorbench.errors import BadFile, BadOption
from xorbench.records.files import decoded, read_bytes, writing

ANONYMOUS: Final = "-anonymous"  # ends the name of an anonymous copy of a run


def new_folder(parent: Path, name: str | None = None) -> Path:
    """Make a folder in `parent`, named by the time and a given or random name; raises OSError."""
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    while True:
        folder = parent / f"{stamp}-{name or secrets.token_hex(3)}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
        name = f"{name}-{secrets.token_hex(3)}" if name else None


def find(root: Path, text: str, option: str = "RUN", kind: str = "") -> Path:
    """The folder of a run: by path, id, unique prefix of an id, name, or `latest`.

    `latest` is the newest of the given kind: `run`, `sweep`, `benchmark`, or any. Raises
    `BadOption`, naming the option, if no run or several runs match.
    """
    if text == "latest" and kind:
        return _newest(root, option, kind)
    if not text:
        hint = "give a path, an id, a prefix of one, a name, or latest"
        raise BadOption(f"{option}: empty", hint)
    try:
        matches = _matching(root, text)
    except (OSError, ValueError) as error:  # a name that is too long or invalid for a file
        raise BadOption(f"{option}: {text[:60]!r}: {str(error.args[-1]).lower()}") from None
    if not matches:
        raise BadOption(f"{option}: no run {text!r} in {root}", known(root / "runs"))
    if len(matches) > 1:
        names = ", ".join(folder.name for folder in matches[:4])
        message = f"{option}: {text!r} matches {len(matches)} runs: {names}"
        raise BadOption(message, "give a longer prefix")
    return matches[0].resolve()


def _newest(root: Path, option: str, kind: str) -> Path:
    """The newest folder of a kind, without anonymous copies."""
    matching = [
        folder
        for folder, info in _infos(root / "runs")
        if info.get("kind", "run") == kind and not is_copy(folder)
    ]
    if not matching:
        command = "pytest-benchmark import FILE" if kind == "benchmark" else kind
        hint = f"create one with python -m xorbench {command}"
        raise BadOption(f"{option}: no {kind} in {root}", hint)
    return matching[-1].resolve()


def _matching(root: Path, text: str) -> list[Path]:
    """The folders that match a text: by path, else by prefix, else by name."""
    runs = root / "runs"
    for path in (root / "latest" if text == "latest" else runs / text, Path(text)):
        if (path / "run.json").is_file():
            return [path]
    prefixed = [folder for folder in sorted(runs.glob("*")) if folder.name.startswith(text)]
    if prefixed:
        return _originals(prefixed)
    by_name = [folder for folder, name in named(runs) if name == text]
    return _originals(by_name) or [path for path in [Path(text)] if path.is_dir()]


def is_copy(folder: Path) -> bool:
    """Whether the folder is an anonymous copy, made by `report --anonymous`."""
    return folder.name.endswith(ANONYMOUS)


def _originals(matches: list[Path]) -> list[Path]:
    """The folders without anonymous copies, unless there are only copies."""
    return [folder for folder in matches if not is_copy(folder)] or matches


def known(runs: Path) -> str:
    """The newest ids, for a hint."""
    names = sorted((folder.name for folder in runs.glob("*")), reverse=True)[:3]
    if not names:
        return "create one with python -m xorbench run"
    return f"the newest are {', '.join(names)}"


def named(runs: Path) -> Iterator[tuple[Path, str]]:
    """The runs with a name, and their names; unreadable runs are skipped."""
    for folder, info in _infos(runs):
        if isinstance(info.get("name"), str):
            yield folder, info["name"]


def _infos(runs: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The content of each `run.json`, oldest first; unreadable ones are skipped."""
    for file in sorted(runs.glob("*/run.json")):
        with contextlib.suppress(BadFile):
            if file.is_file():  # opening a pipe would block
                yield file.parent, decoded(read_bytes(file), dict[str, Any], file)


def point_latest(root: Path, folder: Path) -> None:
    """Let `root/latest` point to this run; if two runs race, one of them wins."""
    temporary = root / f".latest-{secrets.token_hex(4)}"
    with writing(root / "latest"):
        temporary.symlink_to(Path("runs") / folder.name)
        temporary.replace(root / "latest")


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
