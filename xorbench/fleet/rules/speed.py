"""Who is slow among its peers, and whether all are."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from xorbench.fleet import pace as paces
from xorbench.fleet.data import FleetData
from xorbench.fleet.pace import Pace, pace
from xorbench.fleet.records import Finding, Node, Severity
from xorbench.fleet.rules.code import Code
from xorbench.judge.figure import Figure

SLOW_DEVICE: Final = Code(
    "XB201", "speed", "investigate", "look at clocks, load and cooling of this device"
)
BADLY_FED: Final = Code(
    "XB202", "speed", "investigate", "its device is not slow: look at the host that feeds it"
)
ALL_SLOWER: Final = Code(
    "XB203", "baseline", "investigate", "all are slower: look at what changed for all"
)
CODES: Final = (SLOW_DEVICE, BADLY_FED, ALL_SLOWER)


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
            yield SLOW_DEVICE.about(group[index], said, severity)


def shown(ratio: Figure) -> str:
    """A ratio with its interval."""
    return replace(ratio, unit="×").text(".3g")


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
                yield BADLY_FED.about(node, f"{variant}: normalized time {ratio} the median")


def evenly_slow(fleet_data: FleetData) -> Iterator[Finding]:
    """A fleet whose median is slower than that of a baseline, model by model."""
    before = fleet_data.before.by_model
    for kind, group in fleet_data.groups.by_model.items():
        if kind in before:
            ratio = paces.between(device_pace(group), device_pace(before[kind]))
            if ratio.low is not None and ratio.low > 1 and ratio.value >= fleet_data.threshold:
                median = f"median calibration time {shown(ratio)} the baseline's"
                said = f"{len(group)} × {kind[0]}: {median}"
                yield ALL_SLOWER.of_sender(None, "", said)
        elif versions := [version for model, version in before if model == kind[0]]:
            said = (
                f"{kind[0]}: calibration version {kind[1]}, the baseline's is {versions[0]}:"
                " not compared"
            )
            yield ALL_SLOWER.of_sender(None, "", said, severity="note")


RULES: Final = (
    slow,
    badly_fed,
    evenly_slow,
)
