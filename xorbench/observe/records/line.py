"""What every file of a run has in common."""

from typing import Annotated, Final

from msgspec import Meta, Struct

SCHEMA_VERSION: Final = 4

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Line(Struct, frozen=True, kw_only=True):
    """One line of a file of lines; `run` is the id of the run that it belongs to."""

    run: str = ""
