"""`atlas`: record and show the digests of the PyTorch training by environment."""

from dataclasses import dataclass
from pathlib import Path

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadFile, BadOption
from xorbench.fleet import atlas as atlases
from xorbench.fleet import gather
from xorbench.fleet.atlas import Atlas, AtlasChange
from xorbench.fleet.records import Bad, Node
from xorbench.records.folders import find


@dataclass(frozen=True, slots=True)
class Added:
    """The outcome of adding each training of a run, and the exit code."""

    changes: list[AtlasChange]
    exit_code: int


def add(root: Path, text: str, path: Path) -> Added:
    """Record a run's digests; different bits for a known environment are reported, not stored.

    Raises:
        BadOption: the run has injected faults, did not pass, or has no finished PyTorch training.
        BadFile: the run or the atlas is damaged.
    """
    folder = find(root, text, kind="run")
    gather.require_no_faults(folder)
    nodes = gather.read(folder)
    if isinstance(nodes, Bad):
        raise BadFile(f"{folder}: {nodes.reason}")
    if not any(node.trainings for node in nodes):
        raise BadOption(f"RUN: {text!r} has no finished PyTorch training")
    if any(map(has_failed, nodes)):
        raise BadOption(
            f"RUN: {text!r} did not pass, so its digests are not recorded",
            "see its failed checks with xorbench report RUN",
        )
    after, changes = atlases.add(atlases.load(path), nodes)
    atlases.save(path, after)
    differs = any(change.outcome == "different bits" for change in changes)
    return Added(changes, CHECK_FAILED if differs else PASSED)


def has_failed(node: Node) -> bool:
    """Whether a check of the node failed, so that its digests are not trusted."""
    diverged = any(training.diverged is not None for training in node.trainings)
    return bool(node.universal or node.arithmetic or node.probes or node.failed or diverged)


def show(path: Path) -> tuple[Atlas, int]:
    """The atlas and the exit code, inconclusive if it is empty."""
    atlas = atlases.load(path)
    return atlas, PASSED if atlas.entries else INCONCLUSIVE
