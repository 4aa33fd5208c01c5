"""Where runs lie below a results folder, and how one is found."""

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
    """Make a folder below `parent`, named for the time and by a name or by chance; OSError."""
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

    `latest` is the newest of the kind that is asked for: `run`, `sweep`, `benchmark`, or of any.
    Raises `BadOption`, named for the option that asked, where it is none or several.
    """
    if text == "latest" and kind:
        return _newest(root, option, kind)
    if not text:
        hint = "give a path, an id, a prefix of one, a name, or latest"
        raise BadOption(f"{option}: empty", hint)
    try:
        matches = _matching(root, text)
    except (OSError, ValueError) as error:  # a name too long, or one that no file can have
        raise BadOption(f"{option}: {text[:60]!r}: {str(error.args[-1]).lower()}") from None
    if not matches:
        raise BadOption(f"{option}: no run {text!r} in {root}", known(root / "runs"))
    if len(matches) > 1:
        names = ", ".join(folder.name for folder in matches[:4])
        raise BadOption(f"{option}: {text!r} fits {len(matches)} runs: {names}", "give more of it")
    return matches[0].resolve()


def _newest(root: Path, option: str, kind: str) -> Path:
    """The newest folder of a kind; an anonymous copy stands behind what it is a copy of."""
    matching = [
        folder
        for folder, info in _infos(root / "runs")
        if info.get("kind", "run") == kind and not is_copy(folder)
    ]
    if not matching:
        command = "pytest-benchmark import FILE" if kind == "benchmark" else kind
        raise BadOption(f"{option}: no {kind} in {root}", f"python -m xorbench {command} makes one")
    return matching[-1].resolve()


def _matching(root: Path, text: str) -> list[Path]:
    """The folders that a text may mean, the first kind of match that there is."""
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
    """Whether it is the copy of a run that `report --anonymous` has made."""
    return folder.name.endswith(ANONYMOUS)


def _originals(matches: list[Path]) -> list[Path]:
    """Without the anonymous copies, where there is what they are copies of."""
    return [folder for folder in matches if not is_copy(folder)] or matches


def known(runs: Path) -> str:
    """The newest ids, for a hint."""
    names = sorted((folder.name for folder in runs.glob("*")), reverse=True)[:3]
    return f"the newest are {', '.join(names)}" if names else "python -m xorbench run makes one"


def named(runs: Path) -> Iterator[tuple[Path, str]]:
    """The runs that carry a name, with it; what cannot be read carries none."""
    for folder, info in _infos(runs):
        if isinstance(info.get("name"), str):
            yield folder, info["name"]


def _infos(runs: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What each `run.json` says, the oldest first; a neighbour that cannot be read is passed by."""
    for file in sorted(runs.glob("*/run.json")):
        with contextlib.suppress(BadFile):
            if file.is_file():  # to open a pipe would wait for whoever writes
                yield file.parent, decoded(read_bytes(file), dict[str, Any], file)


def point_latest(root: Path, folder: Path) -> None:
    """Let `root/latest` name this run; a race of two runs leaves one of them there."""
    temporary = root / f".latest-{secrets.token_hex(4)}"
    with writing(root / "latest"):
        temporary.symlink_to(Path("runs") / folder.name)
        temporary.replace(root / "latest")


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
