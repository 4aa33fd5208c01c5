"""Whose bits are odd: wrong by the golden values, or other than its peers'."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Finding, Node, NodeTraining, training_name
from xorbench.fleet.rules.code import Code
from xorbench.plan.digest import DIGITS, first_difference

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
    "XB110", "atlas", "note", "atlas add RUN puts it on record, once it is believed"
)
WRONG_PROBE: Final = Code(
    "XB115", "probes", "isolate", "an exact probe is wrong: take it out, then the burn-in"
)
CODES: Final = (
    OTHER_DIGEST,
    WRONG_ARITHMETIC,
    OUTVOTED,
    NO_MAJORITY,
    NO_PEER,
    OTHER_ENVIRONMENT,
    UNREPEATED,
    LESS_ACCURATE,
    OFF_RECORD,
    NEW_ENVIRONMENT,
    WRONG_PROBE,
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
    odd: dict[int, list[tuple[Node, str]]] = {}
    split: dict[int, list[tuple[Node, str]]] = {}
    together: set[int] = set()
    for (_, _, variant), group in fleet_data.groups.by_training.items():
        if len(group) > 1:
            together.update(id(node) for node, _ in group)
            for node, said, sure in _outvoted(variant, group):
                (odd if sure else split).setdefault(id(node), []).append((node, said))
    for code, found in ((OUTVOTED, odd), (NO_MAJORITY, split)):
        for (node, said), *rest in found.values():
            more = f" (and {len(rest)} more trainings)" if rest else ""
            yield code.about(node, said + more)
    for node in fleet_data.nodes:
        if node.trainings and id(node) not in together:
            yield NO_PEER.about(node, "no peer with this environment, so nobody to differ from")


def _outvoted(
    variant: str, group: Sequence[tuple[Node, NodeTraining]]
) -> Iterator[tuple[Node, str, bool]]:
    """The nodes that most peers disagree with, in words; not sure where no bits have more votes."""
    votes = Counter((one.inputs_sha256, one.weights_sha256, one.epoch_digests) for _, one in group)
    if len(votes) == 1:
        return
    (usual, most), (_, second), *_ = votes.most_common()
    sure = most > second
    for node, one in group:
        bits = (one.inputs_sha256, one.weights_sha256, one.epoch_digests)
        if not sure:
            yield node, f"{variant}: {len(votes)} different results of {len(group)}", False
        elif bits != usual:
            yield node, f"{variant}: {_where(one, usual)}, {most} peers agree", True


def _where(one: NodeTraining, usual: tuple[str, str, str]) -> str:
    if one.inputs_sha256 != usual[0]:
        return "other points or initial weights"
    at = first_difference(one.epoch_digests, usual[2])  # `DIGITS` an epoch
    place = "after the last epoch" if at is None else f"from epoch {at // DIGITS} on"
    return f"other bits {place}, {one.weights_sha256[:16]} for {usual[1][:16]}"


def environments(fleet_data: FleetData) -> Iterator[Finding]:
    """A few devices of one model that run something else than most of them."""
    pairs = list(zip(fleet_data.nodes, fleet_data.groups.keys, strict=True))
    by_model: dict[str, Counter[str]] = {}
    known: dict[str, dict[str, str]] = {}
    for node, key in pairs:
        by_model.setdefault(node.model, Counter())[key] += 1
        known.setdefault(key, node.key)
    usual = {model: counts.most_common(1)[0] for model, counts in by_model.items()}
    for node, key in pairs:
        most, count = usual[node.model]
        if key != most and count >= 2 * by_model[node.model][key]:
            yield OTHER_ENVIRONMENT.about(node, _differences(known[key], known[most]))


def _differences(key: Mapping[str, str], most: Mapping[str, str]) -> str:
    differ = [
        f"{field} {key.get(field, 'unset')} where most have {most.get(field, 'unset')}"
        for field in {**most, **key}
        if key.get(field) != most.get(field)
    ]
    return "; ".join(differ)[:500]


def reruns(fleet_data: FleetData) -> Iterator[Finding]:
    """A rank's own fresh processes repeat each other."""
    for node in fleet_data.nodes:
        diverged = [one for one in node.trainings if one.diverged is not None]
        if diverged:
            one = diverged[0]
            what = f"{one.variant}: its processes diverge at epoch {one.diverged}"
            yield UNREPEATED.about(node, what)


def accuracy(fleet_data: FleetData) -> Iterator[Finding]:
    """A rank whose model has more wrong answers than most ranks' has."""
    scores: dict[tuple[str, str], Counter[int]] = {}
    for (_, recipe, variant), group in fleet_data.groups.by_training.items():
        scores.setdefault((recipe, variant), Counter()).update(one.correct for _, one in group)
    usual = {training: _of_most(counts) for training, counts in scores.items()}
    for node in fleet_data.nodes:
        for one in node.trainings:
            most = usual[one.recipe_sha256, one.variant]
            if most is not None and one.correct < most:
                said = f"{one.variant}: {one.correct} of {one.total} right, most have {most}"
                yield LESS_ACCURATE.about(node, said)
                break


def _of_most(counts: Counter[int]) -> int | None:
    """What more than half of the ranks have, if they do."""
    value, votes = counts.most_common(1)[0]
    return value if 2 * votes > counts.total() else None


def on_record(fleet_data: FleetData) -> Iterator[Finding]:
    """A known environment gives the bits on record; one never seen is new."""
    if fleet_data.atlas is None:
        return
    for node, key in zip(fleet_data.nodes, fleet_data.groups.keys, strict=True):
        known = fleet_data.atlas.get(key)
        if known is None:
            if node.trainings:
                yield NEW_ENVIRONMENT.about(node, f"environment {key} is new to the atlas")
            continue
        for one in node.trainings:
            right = known.get(training_name(one))
            if right is not None and right != one.weights_sha256:
                said = f"{one.variant}: {one.weights_sha256[:16]}, on record is {right[:16]}"
                yield OFF_RECORD.about(node, said)
                break


RULES: Final = (
    golden,
    peers,
    environments,
    reruns,
    accuracy,
    on_record,
)
