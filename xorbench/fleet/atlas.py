"""The atlas: which bits the PyTorch training has in each environment that was ever seen."""

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
    """One environment: what it is, and the digest of each training that it was seen to give."""

    environment: dict[str, str]
    digests: dict[str, Sha256]


class Atlas(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`baselines/atlas.json`: entries by the name of their environment."""

    schema_version: int = SCHEMA_VERSION
    entries: dict[str, AtlasEntry]

    @property
    def digests(self) -> dict[str, Mapping[str, str]]:
        """The digests alone, by environment, then by training."""
        return {key: entry.digests for key, entry in self.entries.items()}


class AtlasChange(NamedTuple):
    """The outcome of adding a training to the atlas: `known`, `new` or `other bits`."""

    key: str
    training: str
    outcome: str
    digest: str
    recorded: str


def load(path: Path) -> Atlas:
    """The atlas of a file, empty where there is none; raises `BadFile` for a damaged one."""
    return read_saved(path, Atlas(entries={}), "restore it, or begin a new one")


def save(path: Path, atlas: Atlas) -> None:
    """Write the atlas, its entries sorted."""
    write_saved(path, atlas)


def add(atlas: Atlas, nodes: Sequence[Node]) -> tuple[Atlas, list[AtlasChange]]:
    """The atlas with the digests of the nodes; one that contradicts it is not added."""
    entries = dict(atlas.entries)
    changes = []
    for node in nodes:
        key = key_name(node.key)
        entry = entries.get(key, AtlasEntry(environment=node.key, digests={}))
        for training in node.trainings:
            name, digest = training_name(training), training.weights_sha256
            recorded = entry.digests.get(name, "")
            outcome = "new" if not recorded else "known" if recorded == digest else "other bits"
            changes.append(AtlasChange(key, name, outcome, digest, recorded))
            entry = msgspec.structs.replace(entry, digests={name: digest, **entry.digests})
        entries[key] = entry
    return Atlas(entries=entries), changes
