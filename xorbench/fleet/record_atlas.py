"""`atlas`: which bits the PyTorch training has in which environment, put on record and shown."""

from dataclasses import dataclass
from pathlib import Path

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadFile, BadOption
from xorbench.fleet import atlas as book
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
    """Put a run's digests on record; a known environment with other bits is refused, and said.

    Raises:
        BadOption: the run has injected faults, or no finished PyTorch training.
        BadFile: the run or the atlas is damaged.
    """
    folder = find(root, text, kind="run")
    gather.require_no_faults(folder)
    nodes = gather.read(folder)
    if isinstance(nodes, Bad):
        raise BadFile(f"{folder}: {nodes.reason}")
    if not any(node.trainings for node in nodes):
        raise BadOption(f"RUN: {text!r} has no finished PyTorch training")
    if any(map(is_wrong, nodes)):
        raise BadOption(f"RUN: {text!r} did not pass, so its bits are not believed", "report it")
    after, changes = book.add(book.load(path), nodes)
    book.save(path, after)
    odd = any(change.outcome == "other bits" for change in changes)
    return Added(changes, CHECK_FAILED if odd else PASSED)


def is_wrong(node: Node) -> bool:
    """Whether something of it came out wrong, so that its bits are not believed."""
    diverged = any(training.diverged is not None for training in node.trainings)
    return bool(node.universal or node.arithmetic or node.probes or node.failed or diverged)


def show(path: Path) -> tuple[Atlas, int]:
    """The atlas, and the exit code: inconclusive where it is empty."""
    atlas = book.load(path)
    return atlas, PASSED if atlas.entries else INCONCLUSIVE
