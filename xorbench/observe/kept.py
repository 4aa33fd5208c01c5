"""Small files that are kept between runs."""

from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from xorbench.errors import BadFile
from xorbench.observe.files import decoded, read_bytes, write_whole


class Versioned(Protocol):
    """A record that says which schema version it has."""

    @property
    def schema_version(self) -> int:
        """The schema version."""
        ...


Kept = TypeVar("Kept", bound=Versioned)


def read_kept(path: Path, empty: Kept, hint: str) -> Kept:
    """A small file that is kept between runs, or `empty`, of its type, where there is none.

    Raises `BadFile`, with the hint, for a damaged one, and for one of another schema version.
    """
    if not path.exists():
        return empty
    kept = decoded(read_bytes(path), type(empty), path, hint)
    if kept.schema_version != empty.schema_version:
        found, reads = kept.schema_version, empty.schema_version
        raise BadFile(f"{path}: schema version {found}, this reads {reads}")
    return kept


def write_kept(path: Path, kept: Versioned) -> None:
    """Write it whole, its entries sorted, so that a change of it is a small diff."""
    content = msgspec.json.encode(kept, order="deterministic")
    write_whole(path, msgspec.json.format(content) + b"\n")
