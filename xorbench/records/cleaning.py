"""Removes the secrets of the command, and on request names, from the files of a recorded run.

Values that are masked in the command are also masked in the program's output. If names are removed,
the records also lose homes, users, hosts, absolute paths and device UUIDs. Compared values, which
are digests and the names of tensors, are unchanged.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from xorbench.recorder.masking import masked, secret_values, without_values
from xorbench.records.files import writing
from xorbench.records.redaction import Names, without_names
from xorbench.records.trace import PRESENCE, is_kept_outside, presence_line

OUTPUTS: Final = ("stdout.txt", "stderr.txt", "records/target.txt")
LineChange = Callable[[str], str]


def clean(
    folder: Path, words: Sequence[str], variables: Mapping[str, str], names: Names | None = None
) -> None:
    """Clean the files of a run of a command with these environment variables."""
    values = secret_values(words, variables)
    if not values and names is None:
        return
    for name in OUTPUTS:
        _rewrite(folder / name, partial(_output_line, values, names))
    _rewrite(folder / "records" / PRESENCE, partial(_presence_line, values, names))
    for path in sorted((folder / "records").glob("[0-9]*.jsonl")):
        if names is not None or without_values(first := _first_line(path), values) != first:
            _rewrite(path, partial(_record_line, values, names))
    if names is not None:
        _rewrite(
            folder / "ended.json", lambda line: json.dumps(without_names(json.loads(line), names))
        )


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline().decode(errors="replace")


def _output_line(values: Sequence[str], names: Names | None, line: str) -> str:
    line = without_values(line, values)
    return line if names is None else names.masked(masked(line))


def _presence_line(values: Sequence[str], names: Names | None, line: str) -> str:
    """A line of `presence.jsonl`; without names, the line of a deleted file is removed."""
    line = without_values(line, values)
    event = None if names is None else presence_line(line.encode())
    if names is None or event is None:
        return line
    if event.event == "outside" and not is_kept_outside(event):
        return ""
    fields = {key: value for key, value in json.loads(line).items() if key != "raw"}
    return f"{json.dumps(without_names(fields, names))}\n"


def _record_line(values: Sequence[str], names: Names | None, line: str) -> str:
    """A line of a record: its head, a step, or its end."""
    line = without_values(line, values) if line.startswith('{"schema_version"') else line
    if names is None or names.masked(line) == line:
        return line
    value = json.loads(line)
    if "schema_version" in value:
        value = without_names(value, names)
        value["process"] = without_names(value["process"], names)
    else:
        value = _step_without_names(value, names)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"


def _step_without_names(value: dict[str, Any], names: Names) -> dict[str, Any]:
    """A step or the end without names in its free texts: source lines, errors, hyperparameters."""
    for event in (*value.get("events", ()), *value.get("final", ())):
        if len(event) > 3:
            texts = {key: event[3][key] for key in ("where", "not_recorded") if key in event[3]}
            event[3].update(without_names(texts, names))
    for key in ("errors", "hyperparameters"):
        if key in value:
            value[key] = without_names(value[key], names)
    return value


def _rewrite(path: Path, change: LineChange) -> None:
    """Replace a file, if it exists, by its changed lines."""
    temporary = path.with_name(f".{path.name}.clean")
    try:
        source = path.open("rb")
    except OSError:
        return
    with writing(path), source:
        with temporary.open("wb") as target:
            os.chmod(temporary, os.fstat(source.fileno()).st_mode & 0o777)  # noqa: PTH101
            target.writelines(_changed(source, change))
        temporary.replace(path)


def _changed(source: BinaryIO, change: LineChange) -> Iterator[bytes]:
    for line in source:
        text = line.decode(errors="surrogateescape")
        yield change(text).encode(errors="surrogateescape")
