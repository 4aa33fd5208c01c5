"""All that is known of a fleet, and who is whose peer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from xorbench.fleet import pace as paces
from xorbench.fleet.records import Bad, Fleet, Missing, Node, NodeTraining, Replica, key_name

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class FleetData:
    """All that is known of a fleet, and what it is checked against."""

    nodes: Sequence[Node]
    missing: Sequence[Missing] = ()
    bad: Sequence[Bad] = ()
    replicas: Sequence[Replica] = ()
    atlas: Mapping[str, Mapping[str, str]] | None = None  # digest by training, by key
    baseline: Fleet | None = None
    threshold: float = paces.THRESHOLD
    groups: "Groups" = field(init=False)
    before: "Groups" = field(init=False)  # those of the baseline; empty without one

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", Groups(self.nodes))
        earlier = self.baseline.nodes if self.baseline else []
        object.__setattr__(self, "before", Groups(earlier))


class Groups:
    """The nodes by what makes them peers."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        names: dict[tuple[tuple[str, str], ...], str] = {}
        self.keys = [_key(node, names) for node in nodes]
        self.by_training: dict[tuple[str, str, str], list[tuple[Node, NodeTraining]]] = {}
        for node, key in zip(nodes, self.keys, strict=True):
            for one in node.trainings:
                peers = self.by_training.setdefault((key, one.recipe_sha256, one.variant), [])
                peers.append((node, one))
        timed = [node for node in nodes if node.calibration]
        self.by_model = grouped(timed, lambda n: (n.model, n.calibration_version))


def _key(node: Node, names: dict[tuple[tuple[str, str], ...], str]) -> str:
    """The environment's name, worked out once for all the nodes that share it."""
    items = tuple(node.key.items())
    if items not in names:
        names[items] = key_name(node.key)
    return names[items]


def grouped(nodes: Iterable[Node], by: Callable[[Node], Key]) -> dict[Key, list[Node]]:
    """The nodes by a key, in the order in which the keys first occur."""
    found: dict[Key, list[Node]] = {}
    for node in nodes:
        found.setdefault(by(node), []).append(node)
    return found
