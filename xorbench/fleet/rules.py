"""Who is odd: records in, findings out. Pure: the same for a live fleet and for folders merged.

A rule is a function from `FleetData` to findings, and has a row in `RULES`. What a code means, how
bad it is and what to do is in `CODES`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from xorbench.fleet import pace as paces
from xorbench.fleet.pace import Pace, pace
from xorbench.fleet.records import (
    Bad,
    Finding,
    Fleet,
    Missing,
    Node,
    NodeTraining,
    Replica,
    Severity,
    key_name,
    training_name,
)
from xorbench.judge.stats import Estimate
from xorbench.plan.digest import DIGITS

ULPS: Final = 64.0  # how far DistributedDataParallel may lie from one process; see docs/fleet.md
Key = TypeVar("Key")


class Code(NamedTuple):
    """What a finding's code means: which check found it, how bad it is, what to do."""

    check: str
    severity: Severity
    remedy: str


CODES: Final[dict[str, Code]] = {
    "XB101": Code("universal", "isolate", "this device computes wrong: take it out of service"),
    "XB102": Code("arithmetic", "isolate", "an edge case is wrong: flags first, then the device"),
    "XB103": Code("peers", "isolate", "its peers agree on other bits: take it out, then diff runs"),
    "XB104": Code("peers", "investigate", "no majority: run the canary on each, add more peers"),
    "XB105": Code("peers", "note", "nothing to compare its bits with: add a rank of this kind"),
    "XB106": Code("environment", "investigate", "bring it to what the others run"),
    "XB107": Code("rerun", "isolate", "the device does not repeat itself: take it out of service"),
    "XB108": Code("accuracy", "investigate", "look at its bits first, then at its recipe"),
    "XB109": Code("atlas", "isolate", "other bits than on record for this environment"),
    "XB110": Code("atlas", "note", "atlas add RUN puts it on record, once it is believed"),
    "XB111": Code("ecc", "isolate", "uncorrected memory errors: reset or replace the device"),
    "XB112": Code("collective", "isolate", "its replica diverges from the others: take it out"),
    "XB113": Code("collective", "investigate", "replicas diverge without majority: run pairs"),
    "XB114": Code("collective", "investigate", "not what one process trains: look at the backend"),
    "XB115": Code("probes", "isolate", "an exact probe is wrong: take it out, then the burn-in"),
    "XB116": Code("collective", "isolate", "it gets other results than it must: take it out"),
    "XB117": Code("collective", "investigate", "several get wrong results: look at the network"),
    "XB201": Code("speed", "investigate", "look at clocks, load and cooling of this device"),
    "XB202": Code("speed", "investigate", "its device is not slow: look at the host that feeds it"),
    "XB203": Code("baseline", "investigate", "all are slower: look at what changed for all"),
    "XB204": Code("throttling", "investigate", "look at power and cooling"),
    "XB205": Code("temperature", "note", "warmer than its peers: look at the air"),
    "XB301": Code("presence", "investigate", "it never came: see the launcher's log"),
    "XB302": Code("presence", "isolate", "it came and gave no result: see its system's log"),
    "XB303": Code("completion", "isolate", "its process failed: see logs/ in its run folder"),
    "XB304": Code("record", "investigate", "same xorbench everywhere? else distrust this node"),
    "XB305": Code("presence", "investigate", "stopped by its launcher: run it again"),
    "XB306": Code("collective", "investigate", "see logs/ of this rank; check the network"),
}


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", Groups(self.nodes))


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
        self.by_model = _grouped(timed, lambda n: (n.model, n.calibration_version))


def _key(node: Node, names: dict[tuple[tuple[str, str], ...], str]) -> str:
    """The environment's name, worked out once for all the nodes that share it."""
    items = tuple(node.key.items())
    if items not in names:
        names[items] = key_name(node.key)
    return names[items]


def _grouped(nodes: Iterable[Node], by: Callable[[Node], Key]) -> dict[Key, list[Node]]:
    found: dict[Key, list[Node]] = {}
    for node in nodes:
        found.setdefault(by(node), []).append(node)
    return found


def judge(fleet_data: FleetData) -> list[Finding]:
    """Every rule's findings: the worst first, then by rank and node."""
    found = [finding for rule in RULES for finding in rule(fleet_data)]
    order = {severity: place for place, severity in enumerate(("isolate", "investigate", "note"))}
    return sorted(found, key=lambda f: (order[f.severity], f.code, _rank_order(f.rank), f.node))


def _rank_order(rank: int | None) -> float:
    return math.inf if rank is None else rank


def cordon(findings: Iterable[Finding]) -> list[str]:
    """The nodes to isolate, each once, sorted."""
    return sorted({f.node for f in findings if f.severity == "isolate" and f.node})


def finding(code: str, node: Node, found: str, severity: Severity | None = None) -> Finding:
    """A finding about a node."""
    return of_sender(code, node.rank, node.node, found, node.device, severity)


def of_sender(
    code: str,
    rank: int | None,
    node: str,
    found: str,
    device: str = "",
    severity: Severity | None = None,
) -> Finding:
    """A finding about a rank of which there may be no record."""
    row = CODES[code]
    return Finding(
        code=code,
        severity=severity or row.severity,
        node=node,
        rank=rank,
        device=device,
        found=found,
        remedy=row.remedy,
    )


# Bits


def golden(fleet_data: FleetData) -> Iterator[Finding]:
    """A device that misses a golden value is wrong; no vote is needed."""
    for node in fleet_data.nodes:
        if node.universal:
            yield finding("XB101", node, _first_wrong(node))
        if node.arithmetic:
            first = node.arithmetic[0]
            yield finding("XB102", node, f"{first.what}: {first.actual[:64]}")
        if node.probes:
            first = node.probes[0]
            yield finding("XB115", node, f"{first.what}: {first.actual}"[:500])


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
    for code, found in (("XB103", odd), ("XB104", split)):
        for (node, said), *rest in found.values():
            more = f" (and {len(rest)} more trainings)" if rest else ""
            yield finding(code, node, said + more)
    for node in fleet_data.nodes:
        if node.trainings and id(node) not in together:
            yield finding("XB105", node, "no peer with this environment, so nobody to differ from")


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
    epoch = first_epoch(one.epoch_digests, usual[2])
    place = "after the last epoch" if epoch is None else f"from epoch {epoch} on"
    return f"other bits {place}, {one.weights_sha256[:16]} for {usual[1][:16]}"


def first_epoch(epoch_digests: str, other: str) -> int | None:
    """The first epoch at which two lists differ; None where one continues the other."""
    cut = min(len(epoch_digests), len(other))
    if epoch_digests[:cut] == other[:cut]:
        return None
    return next(at for at in range(cut) if epoch_digests[at] != other[at]) // DIGITS


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
            yield finding("XB106", node, _differences(known[key], known[most]))


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
            yield finding("XB107", node, what)


def accuracy(fleet_data: FleetData) -> Iterator[Finding]:
    """A rank whose model has more wrong answers than most ranks' has."""
    scores: dict[tuple[str, str], Counter[int]] = {}
    for (_, recipe, variant), group in fleet_data.groups.by_training.items():
        scores.setdefault((recipe, variant), Counter()).update(one.correct for _, one in group)
    usual = {training: counts.most_common(1)[0][0] for training, counts in scores.items()}
    for node in fleet_data.nodes:
        for one in node.trainings:
            most = usual[one.recipe_sha256, one.variant]
            if one.correct < most:
                said = f"{one.variant}: {one.correct} of {one.total} right, most have {most}"
                yield finding("XB108", node, said)
                break


def on_record(fleet_data: FleetData) -> Iterator[Finding]:
    """A known environment gives the bits on record; one never seen is new."""
    if fleet_data.atlas is None:
        return
    for node, key in zip(fleet_data.nodes, fleet_data.groups.keys, strict=True):
        known = fleet_data.atlas.get(key)
        if known is None:
            if node.trainings:
                yield finding("XB110", node, f"environment {key} is new to the atlas")
            continue
        for one in node.trainings:
            right = known.get(training_name(one))
            if right is not None and right != one.weights_sha256:
                said = f"{one.variant}: {one.weights_sha256[:16]}, on record is {right[:16]}"
                yield finding("XB109", node, said)
                break


# Devices


def sensors(fleet_data: FleetData) -> Iterator[Finding]:
    """What the driver says of memory errors and of throttling."""
    for node in fleet_data.nodes:
        if node.sensors and node.sensors.ecc_uncorrected:
            yield finding("XB111", node, f"{node.sensors.ecc_uncorrected} uncorrected ECC errors")
        if node.sensors and node.sensors.throttled:
            yield finding("XB204", node, "throttled by " + ", ".join(node.sensors.throttled)[:400])


WARM_C: Final = 10.0


def temperatures(fleet_data: FleetData) -> Iterator[Finding]:
    """A device that is far warmer than the median of its model."""
    for group in _grouped(fleet_data.nodes, lambda node: node.model).values():
        warm = [(n, n.sensors.temperature_c) for n in group if n.sensors]
        known = sorted(c for _, c in warm if c is not None)
        if len(known) >= paces.LEAST_PEERS:
            middle = known[len(known) // 2]
            for node, celsius in warm:
                if celsius is not None and celsius - middle > WARM_C:
                    yield finding("XB205", node, f"{celsius} °C, the median is {middle} °C")


# Speed


def device_pace(group: Sequence[Node]) -> Pace:
    """The raw calibration time of devices of one model."""
    series = [node.calibration for node in group if node.calibration]
    iqr = [math.log(one.q3_s / one.q1_s) for one in series]
    return pace([one.median_s for one in series], iqr)


def slow(fleet_data: FleetData) -> Iterator[Finding]:
    """A device whose raw calibration time is slower than that of its peers."""
    for group in fleet_data.groups.by_model.values():
        found = device_pace(group)
        for index in found.slow(fleet_data.threshold):
            ratio = found.ratio(index)
            bad = ratio.low is not None and ratio.low > paces.ISOLATE
            severity: Severity = "isolate" if bad else "investigate"
            score = f"score {found.score(index):.1f}"
            said = f"calibration time {shown(ratio)} the median of {len(group)}, {score}"
            yield finding("XB201", group[index], said, severity)


def shown(ratio: Estimate) -> str:
    """A ratio with its interval."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3g}×"
    return f"{ratio.value:.3g}× [{ratio.low:.3g}, {ratio.high:.3g}]"


def badly_fed(fleet_data: FleetData) -> Iterator[Finding]:
    """A rank whose normalized time is longer than its peers'."""
    told: set[int] = set()
    for (_, _, variant), group in fleet_data.groups.by_training.items():
        known = [(node, one.relative) for node, one in group if one.relative is not None]
        if len(known) < paces.LEAST_PEERS:
            continue
        iqr = [math.log(one.epoch.q3_s / one.epoch.q1_s) for _, one in group]
        found = pace([relative for _, relative in known], iqr)
        for index in found.slow(fleet_data.threshold):
            node = known[index][0]
            if id(node) not in told:
                told.add(id(node))
                ratio = shown(found.ratio(index))
                yield finding("XB202", node, f"{variant}: normalized time {ratio} the median")


def evenly_slow(fleet_data: FleetData) -> Iterator[Finding]:
    """A fleet whose median is slower than that of a baseline, model by model."""
    if fleet_data.baseline is None:
        return
    before = Groups(fleet_data.baseline.nodes).by_model
    for kind, group in fleet_data.groups.by_model.items():
        if kind in before:
            ratio = paces.between(device_pace(group), device_pace(before[kind]))
            if ratio.low is not None and ratio.low > 1 and ratio.value >= fleet_data.threshold:
                median = f"median calibration time {shown(ratio)} the baseline's"
                said = f"{len(group)} × {kind[0]}: {median}"
                yield of_sender("XB203", None, "", said)
        elif versions := [version for model, version in before if model == kind[0]]:
            said = (
                f"{kind[0]}: calibration version {kind[1]}, the baseline's is {versions[0]}:"
                " not compared"
            )
            yield of_sender("XB203", None, "", said, severity="note")


# Presence


def presence(fleet_data: FleetData) -> Iterator[Finding]:
    """Every rank came, and gave its result."""
    for one in fleet_data.missing:
        yield of_sender("XB302" if one.came else "XB301", one.rank, one.node, one.why)


def completion(fleet_data: FleetData) -> Iterator[Finding]:
    """Every rank trained all that it was to train."""
    for node in fleet_data.nodes:
        if node.stopped:
            yield finding("XB305", node, node.stopped)
        elif node.failed:
            yield finding("XB303", node, node.failed[0])


def records(fleet_data: FleetData) -> Iterator[Finding]:
    """A record that cannot be believed is a finding about who sent it."""
    for one in fleet_data.bad:
        yield of_sender("XB304", one.rank, one.node, f"{one.sender}: {one.reason}"[:500])


# The collective


def replicas(fleet_data: FleetData) -> Iterator[Finding]:
    """Replicas of one collective training have the same bits after every epoch."""
    for one in fleet_data.replicas:
        if one.failed:
            yield of_sender("XB306", one.rank, one.node, one.failed)
    whole = [one for one in fleet_data.replicas if not one.failed]
    for epoch in range(max((len(one.epoch_digests) for one in whole), default=0)):
        digests = [
            one.epoch_digests[epoch] if epoch < len(one.epoch_digests) else "" for one in whole
        ]
        votes = Counter(digests).most_common()
        if len(votes) > 1:
            sure = votes[0][1] > votes[1][1]
            for one, digest in zip(whole, digests, strict=True):
                if not sure or digest != votes[0][0]:
                    done = len(one.epoch_digests)
                    said = f"diverges in epoch {epoch} of {done}, {votes[0][1]} replicas agree"
                    yield of_sender("XB112" if sure else "XB113", one.rank, one.node, said)
            return
    for one in whole:
        if one.ulps is not None and one.ulps > ULPS:
            said = f"{one.ulps:.3g} ulps from one process that trained the same, at most {ULPS:g}"
            yield of_sender("XB114", None, "", said)


def collectives(fleet_data: FleetData) -> Iterator[Finding]:
    """Each replica gets the one right result of each collective; who alone does not is at fault."""
    wrong = [one for one in fleet_data.replicas if one.wrong]
    code = "XB116" if len(wrong) == 1 else "XB117"
    for one in wrong:
        first = one.wrong[0]
        yield of_sender(code, one.rank, one.node, f"{first.what}: {first.actual}"[:500])


RULES: Final[tuple[Callable[[FleetData], Iterator[Finding]], ...]] = (
    golden,
    peers,
    environments,
    reruns,
    accuracy,
    on_record,
    sensors,
    temperatures,
    slow,
    badly_fed,
    evenly_slow,
    presence,
    completion,
    records,
    replicas,
    collectives,
)
