"""The fields that all lines, and all files `run.json`, have in common."""

from typing import Annotated, Final

from msgspec import Meta, Struct

SCHEMA_VERSION: Final = 4

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class FolderInfo(Struct, frozen=True, kw_only=True):
    """`run.json` of any kind of folder: the request, and when it started."""

    schema_version: int = SCHEMA_VERSION
    kind: str
    xorbench_version: str
    id: str
    name: str | None = None
    command: str
    started: str


class Line(Struct, frozen=True, kw_only=True):
    """One line of a JSON-lines file; `run` is the id of its run."""

    run: str = ""
