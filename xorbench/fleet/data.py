"""The data of a fleet, grouped into peers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from xorbench.fleet import pace as paces
from xorbench.fleet.records import Bad, Fleet, Missing, Node, NodeTraining, Replica, key_name

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class FleetData:
    """The records of a fleet, and the references that they are checked against."""

    nodes: Sequence[Node]
    missing: Sequence[Missing] = ()
    bad: Sequence[Bad] = ()
    replicas: Sequence[Replica] = ()
    atlas: Mapping[str, Mapping[str, str]] | None = None  # digest by training, by key
    baseline: Fleet | None = None
    threshold: float = paces.THRESHOLD
    groups: "Groups" = field(init=False)
    before: "Groups" = field(init=False)  # of the baseline; empty without one

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", Groups(self.nodes))
        earlier = self.baseline.nodes if self.baseline else []
        object.__setattr__(self, "before", Groups(earlier))


class Groups:
    """The nodes, grouped into peers by environment and training, and by device model."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        environments = [tuple(node.key.items()) for node in nodes]
        names = {items: key_name(dict(items)) for items in dict.fromkeys(environments)}
        self.keys = [names[items] for items in environments]
        self.by_training: dict[tuple[str, str, str], list[tuple[Node, NodeTraining]]] = {}
        for node, key in zip(nodes, self.keys, strict=True):
            for training in node.trainings:
                group = key, training.recipe_sha256, training.variant
                self.by_training.setdefault(group, []).append((node, training))
        timed = [node for node in nodes if node.calibration]
        self.by_model = grouped(timed, lambda n: (n.model, n.calibration_version))


def grouped(nodes: Iterable[Node], by: Callable[[Node], Key]) -> dict[Key, list[Node]]:
    """The nodes by key, in the order of each key's first node."""
    groups: dict[Key, list[Node]] = {}
    for node in nodes:
        groups.setdefault(by(node), []).append(node)
    return groups
