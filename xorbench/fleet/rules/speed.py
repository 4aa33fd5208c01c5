"""Devices slower than their peers, and fleets slower than a baseline."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from xorbench.fleet import pace as paces
from xorbench.fleet.data import FleetData
from xorbench.fleet.pace import Pace, pace
from xorbench.fleet.records import Finding, Node, Severity
from xorbench.fleet.rules.code import Code
from xorbench.stats.figure import Figure

SLOW_DEVICE: Final = Code(
    "XB201", "speed", "investigate", "check clocks, load and cooling of this device"
)
SLOW_HOST: Final = Code("XB202", "speed", "investigate", "its device is not slow: check its host")
ALL_SLOWER: Final = Code(
    "XB203", "baseline", "investigate", "all are slower: check for a change to all of them"
)


def device_pace(group: Sequence[Node]) -> Pace:
    """The raw calibration time of devices of one model."""
    timings = [node.calibration for node in group if node.calibration]
    return pace([series.median_s for series in timings], [series.log_iqr for series in timings])


def slow(fleet_data: FleetData) -> Iterator[Finding]:
    """Devices whose raw calibration time is longer than their peers'."""
    for group in fleet_data.groups.by_model.values():
        model_pace = device_pace(group)
        for index in model_pace.slow(fleet_data.threshold):
            ratio = model_pace.ratio(index)
            is_severe = ratio.low is not None and ratio.low > paces.ISOLATE
            severity: Severity = "isolate" if is_severe else "investigate"
            score = f"score {model_pace.score(index):.1f}"
            text = f"calibration time {ratio_text(ratio)} the median of {len(group)}, {score}"
            yield SLOW_DEVICE.about(group[index], text, severity)


def ratio_text(ratio: Figure) -> str:
    """A ratio with its interval."""
    return replace(ratio, unit="×").text(".3g")


def slow_host(fleet_data: FleetData) -> Iterator[Finding]:
    """Ranks whose normalized time is longer than their peers'."""
    reported: set[int] = set()
    for (_, _, variant), group in fleet_data.groups.by_training.items():
        timed = [(node, t.relative) for node, t in group if t.relative is not None]
        if len(timed) < paces.LEAST_PEERS:
            continue
        iqr = [training.epoch.log_iqr for _, training in group]
        normalized = pace([relative for _, relative in timed], iqr)
        for index in normalized.slow(fleet_data.threshold):
            node = timed[index][0]
            if id(node) not in reported:
                reported.add(id(node))
                ratio = ratio_text(normalized.ratio(index))
                yield SLOW_HOST.about(node, f"{variant}: normalized time {ratio} the median")


def slower_than_baseline(fleet_data: FleetData) -> Iterator[Finding]:
    """Device models whose median is slower than in the baseline."""
    before = fleet_data.before.by_model
    for (model, version), group in fleet_data.groups.by_model.items():
        if (model, version) in before:
            ratio = paces.ratio_of_medians(device_pace(group), device_pace(before[model, version]))
            if ratio.low is not None and ratio.low > 1 and ratio.value >= fleet_data.threshold:
                median = f"median calibration time {ratio_text(ratio)} the baseline's"
                yield ALL_SLOWER.about(None, f"{len(group)} × {model}: {median}")
        elif earlier := [v for name, v in before if name == model]:
            versions = f"calibration version {version}, the baseline's is {earlier[0]}"
            yield ALL_SLOWER.about(None, f"{model}: {versions}: not compared", severity="note")
