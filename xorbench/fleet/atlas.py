"""The atlas: digests of the PyTorch training by environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from xorbench.fleet.records import Node, key_name, training_name
from xorbench.records.saved import read_saved, write_saved
from xorbench.records.schema.line import Sha256

SCHEMA_VERSION: Final = 2


class AtlasEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One environment, and the recorded digest of each training in it."""

    environment: dict[str, str]
    digests: dict[str, Sha256]


class Atlas(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`baselines/atlas.json`: entries by environment name."""

    schema_version: int = SCHEMA_VERSION
    entries: dict[str, AtlasEntry]

    @property
    def digests(self) -> dict[str, Mapping[str, str]]:
        """The digests, by environment, then by training."""
        return {key: entry.digests for key, entry in self.entries.items()}


class AtlasChange(NamedTuple):
    """The outcome of adding a training to the atlas: `known`, `new` or `different bits`."""

    key: str
    training: str
    outcome: str
    digest: str
    recorded: str


def load(path: Path) -> Atlas:
    """The stored atlas, empty without a file. Raises `BadFile` for a damaged file."""
    return read_saved(path, Atlas(entries={}), "restore the file, or create a new atlas")


def save(path: Path, atlas: Atlas) -> None:
    """Write the atlas with sorted entries."""
    write_saved(path, atlas)


def add(atlas: Atlas, nodes: Sequence[Node]) -> tuple[Atlas, list[AtlasChange]]:
    """Add the nodes' digests to the atlas; a digest that contradicts it is not added."""
    entries = dict(atlas.entries)
    changes = []
    for node in nodes:
        key = key_name(node.key)
        entry = entries.get(key, AtlasEntry(environment=node.key, digests={}))
        for training in node.trainings:
            name, digest = training_name(training), training.weights_sha256
            recorded = entry.digests.get(name, "")
            outcome = "new" if not recorded else "known" if recorded == digest else "different bits"
            changes.append(AtlasChange(key, name, outcome, digest, recorded))
            entry = msgspec.structs.replace(entry, digests={name: digest, **entry.digests})
        entries[key] = entry
    return Atlas(entries=entries), changes
