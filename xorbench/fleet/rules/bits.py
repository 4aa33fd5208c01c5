"""Whose bits are odd: wrong by the golden values, or other than its peers'."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding, Node, NodeTraining, training_name
from xorbench.fleet.rules.code import Code
from xorbench.state_digest import DIGITS, first_difference

OTHER_DIGEST: Final = Code(
    "XB101", "universal", "isolate", "this device computes wrong: take it out of service"
)
WRONG_ARITHMETIC: Final = Code(
    "XB102", "arithmetic", "isolate", "an edge case is wrong: flags first, then the device"
)
OUTVOTED: Final = Code(
    "XB103", "peers", "isolate", "its peers agree on other bits: take it out, then diff runs"
)
NO_MAJORITY: Final = Code(
    "XB104",
    "peers",
    "investigate",
    "no majority: run the canary on each, add more peers",
    is_open=True,
)
NO_PEER: Final = Code(
    "XB105", "peers", "note", "nothing to compare its bits with: add a rank of this kind"
)
OTHER_ENVIRONMENT: Final = Code(
    "XB106", "environment", "investigate", "bring it to what the others run"
)
UNREPEATED: Final = Code(
    "XB107", "rerun", "isolate", "the device does not repeat itself: take it out of service"
)
LESS_ACCURATE: Final = Code(
    "XB108", "accuracy", "investigate", "look at its bits first, then at its recipe"
)
OFF_RECORD: Final = Code(
    "XB109", "atlas", "isolate", "other bits than on record for this environment"
)
NEW_ENVIRONMENT: Final = Code(
    "XB110", "atlas", "note", "fleet atlas add RUN puts it on record, once it is believed"
)
WRONG_PROBE: Final = Code(
    "XB115", "probes", "isolate", "an exact probe is wrong: take it out, then the burn-in"
)


def golden(fleet_data: FleetData) -> Iterator[Finding]:
    """A device that misses a golden value is wrong; no vote is needed."""
    for node in fleet_data.nodes:
        if node.universal:
            yield OTHER_DIGEST.about(node, _first_wrong(node))
        if node.arithmetic:
            first = node.arithmetic[0]
            yield WRONG_ARITHMETIC.about(node, f"{first.what}: {first.actual[:64]}")
        if node.probes:
            first = node.probes[0]
            yield WRONG_PROBE.about(node, f"{first.what}: {first.actual}"[:500])


def _first_wrong(node: Node) -> str:
    """The first epoch that differs says more than the digest at the end."""
    wrong = next((w for w in node.universal if ", epoch " in w.what), node.universal[0])
    return f"{wrong.what}: {wrong.actual[:16]}, golden is {wrong.expected[:16]}"


def peers(fleet_data: FleetData) -> Iterator[Finding]:
    """Equal keys must give equal bits: who differs from the majority is odd."""
    outvoted: dict[int, list[tuple[Node, str]]] = {}
    split: dict[int, list[tuple[Node, str]]] = {}
    compared: set[int] = set()
    for (_, _, variant), group in fleet_data.groups.by_training.items():
        if len(group) > 1:
            compared.update(id(node) for node, _ in group)
            for node, text, sure in _differing(variant, group):
                (outvoted if sure else split).setdefault(id(node), []).append((node, text))
    for code, differing in ((OUTVOTED, outvoted), (NO_MAJORITY, split)):
        for (node, text), *rest in differing.values():
            more = f" (and {len(rest)} more trainings)" if rest else ""
            yield code.about(node, text + more)
    for node in fleet_data.nodes:
        if node.trainings and id(node) not in compared:
            yield NO_PEER.about(node, "no peer with this environment, so nobody to differ from")


def _differing(
    variant: str, group: Sequence[tuple[Node, NodeTraining]]
) -> Iterator[tuple[Node, str, bool]]:
    """The nodes that most peers disagree with, in words; not sure where no bits have more votes."""
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
        return "other points or initial weights"
    place = first_difference(training.epoch_digests, usual[2])  # `DIGITS` an epoch
    epoch = "after the last epoch" if place is None else f"from epoch {place // DIGITS} on"
    return f"other bits {epoch}, {training.weights_sha256[:16]} for {usual[1][:16]}"


def environments(fleet_data: FleetData) -> Iterator[Finding]:
    """A few devices of one model that run something else than most of them."""
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
            yield OTHER_ENVIRONMENT.about(node, text)


def _differences_text(key: Mapping[str, str], usual: Mapping[str, str]) -> str:
    differences = [
        f"{field} {key.get(field, 'unset')} where most have {usual.get(field, 'unset')}"
        for field in {**usual, **key}
        if key.get(field) != usual.get(field)
    ]
    return "; ".join(differences)[:500]


def reruns(fleet_data: FleetData) -> Iterator[Finding]:
    """A rank's own fresh processes repeat each other."""
    for node in fleet_data.nodes:
        for training in node.trainings:
            if training.diverged is not None:
                epoch = f"its processes diverge at epoch {training.diverged}"
                yield UNREPEATED.about(node, f"{training.variant}: {epoch}")
                break


def accuracy(fleet_data: FleetData) -> Iterator[Finding]:
    """A rank whose model has more wrong answers than most ranks' has."""
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
                score = f"{training.correct} of {training.total} right, most have {usual}"
                yield LESS_ACCURATE.about(node, f"{training.variant}: {score}")
                break


def on_record(fleet_data: FleetData) -> Iterator[Finding]:
    """A known environment gives the bits on record; one never seen is new."""
    if fleet_data.atlas is None:
        return
    for node, name in zip(fleet_data.nodes, fleet_data.groups.keys, strict=True):
        recorded = fleet_data.atlas.get(name)
        if recorded is None and node.trainings:
            yield NEW_ENVIRONMENT.about(node, f"environment {name} is new to the atlas")
        for training in node.trainings:
            right = (recorded or {}).get(training_name(training))
            if right is not None and right != training.weights_sha256:
                digests = f"{training.weights_sha256[:16]}, on record is {right[:16]}"
                yield OFF_RECORD.about(node, f"{training.variant}: {digests}")
                break
