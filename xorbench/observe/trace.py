"""The file of a trace: one JSON line that says of what, then one for each epoch. Versioned.

A digest is the first 16 digits of the tensor's SHA-256 (workload.md §4). An epoch of 19 steps is
about 6 kB; `values`, where they were asked for, hold the tensors of a step whole.
"""

from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from xorbench.errors import BadFile
from xorbench.observe.records import TensorRecord
from xorbench.observe.store import read_bytes, write_whole
from xorbench.plan.case import Case, ProcessConfig
from xorbench.plan.recipe import Recipe

SCHEMA_VERSION: Final = 2
TraceRecord = TypeVar("TraceRecord", bound=Struct)


class TraceHead(Struct, frozen=True, kw_only=True):
    """What was traced: on what, by which recipe, with which faults.

    `index` is that of the process under its config, which decides what faults hit it.
    """

    schema_version: int = SCHEMA_VERSION
    kind: str = "trace"
    xorbench_version: str
    case: Case
    config: ProcessConfig
    recipe: Recipe
    faults: list[str]
    index: int = 0
    machine: dict[str, Any]
    inputs_sha256: str
    tensors: list[str]


class TraceEpoch(Struct, frozen=True, kw_only=True):
    """One epoch: its digest, and each step's digests in the order of the tensors."""

    epoch: int
    loss: float | None
    digest: str
    steps: list[list[str]]
    values: dict[str, dict[str, TensorRecord]] = {}


class Trace(Struct, frozen=True, kw_only=True):
    """A trace as it was read back."""

    head: TraceHead
    epochs: dict[int, TraceEpoch]


def write(path: Path, trace: Trace) -> None:
    """Write the trace, whole or not at all; raises `BadFile` where it cannot."""
    lines = [msgspec.json.encode(record) for record in (trace.head, *trace.epochs.values())]
    write_whole(path, b"\n".join(lines) + b"\n")


def is_trace(path: Path) -> bool:
    """Whether this is the file of a trace, rather than the folder of a run."""
    try:
        return path.is_file()
    except OSError:  # a text that no file can be named by
        return False


def load(path: Path) -> Trace:
    """Read a trace; raises `BadFile`, naming the line, for what is damaged or another version's."""
    lines = read_bytes(path).splitlines()
    head = _record(path, 1, lines[0] if lines else b"", TraceHead)
    if (head.schema_version, head.kind) != (SCHEMA_VERSION, "trace"):
        found = f"{head.kind} of schema version {head.schema_version}"
        raise BadFile(f"{path}: is a {found}, this xorbench reads traces of {SCHEMA_VERSION}")
    epochs = [_record(path, number, line, TraceEpoch) for number, line in enumerate(lines[1:], 2)]
    for number, epoch in enumerate(epochs, 2):
        if any(len(step) != len(head.tensors) for step in epoch.steps):
            raise BadFile(f"{path}:{number}: damaged: a step has not {len(head.tensors)} digests")
    return Trace(head=head, epochs={epoch.epoch: epoch for epoch in epochs})


def _record(path: Path, number: int, line: bytes, kind: type[TraceRecord]) -> TraceRecord:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise BadFile(f"{path}:{number}: damaged: {error}") from None
