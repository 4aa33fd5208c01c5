"""Copies a run without the names of host and user and without absolute paths."""

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xorbench.errors import BadFile, BadOption, why
from xorbench.records import folders, loading
from xorbench.records.files import decoded, packed_path, place, read_bytes, whole_lines
from xorbench.records.redaction import Names, names_in, without_names


def copied(root: Path, text: str) -> Path:
    """Copy a run without names, whole or not at all, and return the folder of the copy.

    Reports are not copied but generated from the copy. Raises `BadOption` if the copy exists.
    """
    folder = folders.find(root, text)
    info = loading.read_object(folder)  # raises for an unreadable file before any copy
    target = folder.with_name(f"{folder.name}{folders.ANONYMOUS}")
    if target.exists():
        raise BadOption(f"--anonymous: {target} exists already", "remove it first")
    try:
        with tempfile.TemporaryDirectory(prefix=".anonymous-", dir=folder.parent) as temporary:
            copy = Path(temporary) / target.name
            copy.mkdir()
            _copy(folder, copy, names_in(info))
            copy.rename(target)
    except OSError as error:
        raise BadFile(f"{folder.parent}: cannot write: {why(error)}") from None
    return target


def _copy(folder: Path, copy: Path, names: Names) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        clean = _cleaner(path.relative_to(folder))
        if clean is not None:
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            clean(path, target, names)


def _cleaner(name: Path) -> Callable[[Path, Path, Names], None] | None:
    """The function that copies a file; None for reports and for files that no run writes."""
    if name.parts[0] == "logs" and name.suffix == ".log":
        return _text
    if name.parts[0] == "weights" and name.suffix == ".pt":
        return lambda path, target, _names: shutil.copyfile(path, target)  # type: ignore[return-value]
    if len(name.parts) == 1 and name.suffix == ".json" and name.name != "verdicts.json":
        return _json
    return _lines if name.name.endswith((".jsonl", ".jsonl.gz")) else None


def _json(path: Path, target: Path, names: Names) -> None:
    value = without_names(decoded(read_bytes(path), Any, path), names)
    if path.name == "run.json":
        value["anonymous"] = True
        value.get("host", {}).pop("hostname", None)
        value.get("imported", {}).get("machine_info", {}).pop("node", None)
    target.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _lines(path: Path, target: Path, names: Names) -> None:
    plain = path.with_name(path.name.removesuffix(".gz"))
    packed = path == packed_path(plain)
    with gzip.open(target, "wb") if packed else target.open("wb") as file:
        file.writelines(_clean_lines(plain, names))


def _clean_lines(path: Path, names: Names) -> Iterator[bytes]:
    for source, number, line in whole_lines(path):
        value = without_names(decoded(line, Any, place(source, number)), names)
        yield json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text(path: Path, target: Path, names: Names) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    target.write_text(names.masked(text), encoding="utf-8")
