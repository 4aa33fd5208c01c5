"""The fields that all lines, and all files `run.json`, have in common."""

from typing import Annotated, Final

from msgspec import Meta, Struct

SCHEMA_VERSION: Final = 4

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class FolderInfo(Struct, frozen=True, kw_only=True):
    """`run.json` of any kind of folder: what was asked for, and when it started."""

    schema_version: int = SCHEMA_VERSION
    kind: str
    xorbench_version: str
    id: str
    name: str | None = None
    command: str
    started: str


class Line(Struct, frozen=True, kw_only=True):
    """One line of a file of lines; `run` is the id of the run that it belongs to."""

    run: str = ""
