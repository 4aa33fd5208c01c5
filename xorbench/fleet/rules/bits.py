"""Devices with wrong bits: different from golden values, peers or the atlas."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding, Node, NodeTraining, training_name
from xorbench.fleet.rules.code import Code
from xorbench.state_digest import DIGITS, first_difference

WRONG_DIGEST: Final = Code(
    "XB101", "universal", "isolate", "this device computes incorrectly: take it out of service"
)
WRONG_ARITHMETIC: Final = Code(
    "XB102", "arithmetic", "isolate", "an edge case is wrong: check compiler flags, then the device"
)
OUTVOTED: Final = Code(
    "XB103", "peers", "isolate", "its peers agree on different bits: take it out, then diff runs"
)
NO_MAJORITY: Final = Code(
    "XB104",
    "peers",
    "investigate",
    "no majority: run the canary on each, add more peers",
    is_inconclusive=True,
)
NO_PEER: Final = Code(
    "XB105", "peers", "note", "no peer to compare with: add a rank with the same environment"
)
DIFFERENT_ENVIRONMENT: Final = Code(
    "XB106", "environment", "investigate", "install the same environment as on the others"
)
NOT_REPRODUCIBLE: Final = Code(
    "XB107", "rerun", "isolate", "the device is not reproducible: take it out of service"
)
LESS_ACCURATE: Final = Code(
    "XB108", "accuracy", "investigate", "check its bits first, then its recipe"
)
NOT_AS_RECORDED: Final = Code(
    "XB109", "atlas", "isolate", "different bits than recorded for this environment"
)
NEW_ENVIRONMENT: Final = Code(
    "XB110", "atlas", "note", "once trusted, record it with xorbench fleet atlas add RUN"
)
WRONG_PROBE: Final = Code(
    "XB115", "probes", "isolate", "an exact probe is wrong: take it out, then run the burn-in"
)


def golden(fleet_data: FleetData) -> Iterator[Finding]:
    """A device that differs from a golden value is wrong; no vote is needed."""
    for node in fleet_data.nodes:
        if node.universal:
            yield WRONG_DIGEST.about(node, _first_wrong(node))
        if node.arithmetic:
            first = node.arithmetic[0]
            yield WRONG_ARITHMETIC.about(node, f"{first.what}: {first.actual[:64]}")
        if node.probes:
            first = node.probes[0]
            yield WRONG_PROBE.about(node, f"{first.what}: {first.actual}"[:500])


def _first_wrong(node: Node) -> str:
    """The first wrong epoch if any, since it is more precise than the final digest."""
    wrong = next((w for w in node.universal if ", epoch " in w.what), node.universal[0])
    return f"{wrong.what}: {wrong.actual[:16]}, golden is {wrong.expected[:16]}"


def peers(fleet_data: FleetData) -> Iterator[Finding]:
    """Equal keys must give identical bits; a node that differs from the majority is an outlier."""
    outvoted: dict[int, list[tuple[Node, str]]] = {}
    split: dict[int, list[tuple[Node, str]]] = {}
    compared: set[int] = set()
    for (_, _, variant), group in fleet_data.groups.by_training.items():
        if len(group) > 1:
            compared.update(id(node) for node, _ in group)
            for node, text, has_majority in _differing(variant, group):
                nodes = outvoted if has_majority else split
                nodes.setdefault(id(node), []).append((node, text))
    for code, differing in ((OUTVOTED, outvoted), (NO_MAJORITY, split)):
        for (node, text), *rest in differing.values():
            more = f" (and {len(rest)} more trainings)" if rest else ""
            yield code.about(node, text + more)
    for node in fleet_data.nodes:
        if node.trainings and id(node) not in compared:
            yield NO_PEER.about(
                node, "no other device has this environment: nothing to compare with"
            )


def _differing(
    variant: str, group: Sequence[tuple[Node, NodeTraining]]
) -> Iterator[tuple[Node, str, bool]]:
    """The nodes that differ from the majority, a description, and whether there is a majority."""
    votes = Counter(training.bits for _, training in group)
    if len(votes) == 1:
        return
    (usual, most), (_, second), *_ = votes.most_common()
    for node, training in group:
        if most == second:
            yield node, f"{variant}: {len(votes)} different results of {len(group)}", False
        elif training.bits != usual:
            yield node, f"{variant}: {_difference_text(training, usual)}, {most} peers agree", True


def _difference_text(training: NodeTraining, usual: tuple[str, str, str]) -> str:
    if training.inputs_sha256 != usual[0]:
        return "different points or initial weights"
    place = first_difference(training.epoch_digests, usual[2])  # `DIGITS` per epoch
    epoch = "after the last epoch" if place is None else f"from epoch {place // DIGITS} on"
    return f"different bits {epoch}, {training.weights_sha256[:16]} instead of {usual[1][:16]}"


def environments(fleet_data: FleetData) -> Iterator[Finding]:
    """Devices whose environment differs from most devices of their model."""
    pairs = list(zip(fleet_data.nodes, fleet_data.groups.keys, strict=True))
    names_by_model: dict[str, Counter[str]] = {}
    environment = {name: node.key for node, name in pairs}
    for node, name in pairs:
        names_by_model.setdefault(node.model, Counter())[name] += 1
    most_common = {model: names.most_common(1)[0] for model, names in names_by_model.items()}
    for node, name in pairs:
        usual, count = most_common[node.model]
        if name != usual and count >= 2 * names_by_model[node.model][name]:
            text = _differences_text(environment[name], environment[usual])
            yield DIFFERENT_ENVIRONMENT.about(node, text)


def _differences_text(key: Mapping[str, str], usual: Mapping[str, str]) -> str:
    differences = [
        f"{field} {key.get(field, 'unset')}, most have {usual.get(field, 'unset')}"
        for field in {**usual, **key}
        if key.get(field) != usual.get(field)
    ]
    return "; ".join(differences)[:500]


def reruns(fleet_data: FleetData) -> Iterator[Finding]:
    """Ranks whose own fresh processes differ."""
    for node in fleet_data.nodes:
        for training in node.trainings:
            if training.diverged is not None:
                epoch = f"its processes diverge at epoch {training.diverged}"
                yield NOT_REPRODUCIBLE.about(node, f"{training.variant}: {epoch}")
                break


def accuracy(fleet_data: FleetData) -> Iterator[Finding]:
    """Ranks whose trained model has a lower score than most."""
    scores: dict[tuple[str, str], Counter[int]] = {}
    for (_, recipe, variant), group in fleet_data.groups.by_training.items():
        scores.setdefault((recipe, variant), Counter()).update(t.correct for _, t in group)
    majority = {
        training: score
        for training, counts in scores.items()
        for score, votes in counts.most_common(1)
        if 2 * votes > counts.total()
    }
    for node in fleet_data.nodes:
        for training in node.trainings:
            usual = majority.get((training.recipe_sha256, training.variant))
            if usual is not None and training.correct < usual:
                score = f"{training.correct} of {training.total} correct, most have {usual}"
                yield LESS_ACCURATE.about(node, f"{training.variant}: {score}")
                break


def recorded_bits(fleet_data: FleetData) -> Iterator[Finding]:
    """Devices that differ from the atlas, and environments that are new to it."""
    if fleet_data.atlas is None:
        return
    for node, name in zip(fleet_data.nodes, fleet_data.groups.keys, strict=True):
        recorded = fleet_data.atlas.get(name)
        if recorded is None and node.trainings:
            yield NEW_ENVIRONMENT.about(node, f"environment {name} is new to the atlas")
        for training in node.trainings:
            expected = (recorded or {}).get(training_name(training))
            if expected is not None and expected != training.weights_sha256:
                digests = f"{training.weights_sha256[:16]}, recorded {expected[:16]}"
                yield NOT_AS_RECORDED.about(node, f"{training.variant}: {digests}")
                break
