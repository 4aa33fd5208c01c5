"""The report of a fleet: findings, comparison groups, speeds and devices."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import exp
from typing import Final

import pandas as pd
from msgspec.structs import asdict

from xorbench.answers import CORRECT, FAST, IDENTICAL, Answer
from xorbench.fleet.data import FleetData
from xorbench.fleet.records import Fleet, key_name
from xorbench.fleet.rules.speed import device_pace
from xorbench.recorder.environment import labelled
from xorbench.report.content import Content, Picture, Section
from xorbench.report.drawing import COLOURS, drawn, legend
from xorbench.report.text import frame_of
from xorbench.verdicts import Verdict, some, worst

SHOWN: Final = 200  # rows of a table that grows with the fleet
QUESTION: Final = {
    "peers": IDENTICAL,
    "rerun": IDENTICAL,
    "atlas": IDENTICAL,
    "collective": IDENTICAL,
    "environment": IDENTICAL,
    "speed": FAST,
    "baseline": FAST,
    "throttling": FAST,
    "temperature": FAST,
}


def content(fleet: Fleet, fleet_data: FleetData, judged: Sequence[Verdict]) -> Content:
    """The content of the fleet's report."""
    ranks = len({(node.node, node.rank, node.run) for node in fleet.nodes})
    return Content(
        id=fleet.id,
        schema_version=fleet.schema_version,
        anonymous=False,
        heading=[
            ("fleet", fleet.id),
            ("command", fleet.command),
            ("judged", fleet.judged),
            ("machine", f"{len({node.node for node in fleet.nodes})} nodes, {ranks} ranks"),
            ("missing", str(len(fleet.missing))),
            ("to isolate", str(len({f.node for f in fleet.findings if f.severity == "isolate"}))),
        ],
        sections=[
            Section("findings", "Findings", findings(fleet), FINDINGS, terminal=True),
            Section("groups", COMPARED, groups(fleet_data), GROUPS, terminal=True),
            Section("speed", "Speed by device model", speeds(fleet_data), SPEEDS, terminal=True),
            Section("devices", "Devices", devices(fleet_data), DEVICES),
        ],
        pictures=[
            Picture(
                name="pace",
                title="Every device against the median of its model",
                caption="Raw calibration time, median of each device, quickest to slowest",
                data=partial(ratios, fleet_data),
                draw=draw_ratios,
                describe=ratios_text,
                under="speed",
            )
        ],
        verdicts=judged,
        answers=answers(judged),
        again=[fleet.command],
    )


COMPARED: Final = "Comparison groups"
FINDINGS: Final = (
    f"Most severe first, at most {SHOWN} rows; fleet.json has all. Nodes marked `isolate` are in"
    " cordon.txt; `note` does not affect the exit code."
)
GROUPS: Final = (
    "Devices with the same environment must give identical bits. `results` is the number of"
    " different results; 1 is correct."
)
SPEEDS: Final = (
    "The raw calibration time by device model. `robust SD` is the standard deviation across devices"
    " (1.4826 × MAD, at least half of a device's own IQR). A device above the ratio `slow above` is"
    " significantly slower (Student's t, corrected for the number of devices)."
)
TOO_FEW: Final = "fewer than three devices: a slow one cannot be identified"
DEVICES: Final = f"Slowest first, at most {SHOWN} rows; fleet.json has all."


def answers(judged: Sequence[Verdict]) -> list[Answer]:
    """The answers to the three questions for a fleet."""
    rows = []
    for question in (CORRECT, IDENTICAL, FAST):
        verdicts = [v for v in judged if QUESTION.get(v.check, CORRECT) == question]
        text = "no rank differs" if verdicts else "no rank to compare with"
        if bad := [v for v in verdicts if v.outcome in ("fail", "inconclusive")]:
            text = some([f"{v.subject}: {v.actual}" for v in bad], 2, "; ")
        rows.append(Answer(question, worst(verdicts), text))
    return rows


def findings(fleet: Fleet) -> pd.DataFrame:
    """One row per finding."""
    columns = ["severity", "code", "node", "rank", "device", "evidence", "remedy"]
    rows = [{**asdict(f), "rank": _rank_text(f.rank)} for f in fleet.findings[:SHOWN]]
    return pd.DataFrame(rows, columns=columns, dtype=str)


def _rank_text(rank: int | None) -> str:
    return "" if rank is None else str(rank)


def groups(fleet_data: FleetData) -> pd.DataFrame:
    """One row per environment and training: numbers of devices and of different results."""
    rows = []
    for (key, _, variant), members in fleet_data.groups.by_training.items():
        node = members[0][0]
        bits = Counter((t.weights_sha256, t.epoch_digests) for _, t in members)
        rows.append(
            {
                "environment": key,
                "device model": node.model,
                **labelled(node.key, "torch_version"),
                "training": variant,
                "devices": len(members),
                "results": len(bits),
                "usual sha256": bits.most_common(1)[0][0][0],
            }
        )
    return pd.DataFrame(sorted(rows, key=lambda row: -int(str(row["devices"])))[:SHOWN])


def speeds(fleet_data: FleetData) -> pd.DataFrame:
    """One row per device model."""
    rows = []
    for (model, version), group in fleet_data.groups.by_model.items():
        pace = device_pace(group)
        few = len(group) < 3
        rows.append(
            {
                "device model": model,
                "calibration version": version,
                "devices": len(group),
                "median (ms)": 1e3 * exp(pace.centre),
                "robust SD (%)": 100 * pace.sigma,
                "slow above (×)": None if few else max(exp(pace.margin), fleet_data.threshold),
                "slowest (×)": exp(float(max(pace.logs)) - pace.centre),
                "note": TOO_FEW if few else "",
            }
        )
    return pd.DataFrame(rows)


def devices(fleet_data: FleetData) -> pd.DataFrame:
    """One row per device, slowest first."""
    order = sorted(
        fleet_data.nodes, key=lambda n: -(n.calibration.median_s if n.calibration else 1e9)
    )
    rows = [
        {
            "node": node.node,
            "rank": _rank_text(node.rank),
            "device": node.device,
            "run": node.run,
            "environment": key_name(node.key),
            "calibration (ms)": 1e3 * node.calibration.median_s if node.calibration else None,
            "n": node.calibration.rounds if node.calibration else None,
            "°C": node.sensors.temperature_c if node.sensors else None,
            "SM (MHz)": node.sensors.sm_clock_mhz if node.sensors else None,
        }
        for node in order[:SHOWN]
    ]
    return frame_of(rows)


def ratios(fleet_data: FleetData) -> pd.DataFrame:
    """Every device's calibration time divided by the median of its model, sorted."""
    rows = []
    models = Counter(model for model, _ in fleet_data.groups.by_model)
    for (model, version), group in fleet_data.groups.by_model.items():
        name = model if models[model] == 1 else f"{model}, calibration version {version}"
        pace = device_pace(group)
        for place, log in enumerate(sorted(pace.logs - pace.centre)):
            rows.append({"device model": name, "place": place, "ratio": exp(log)})
    return pd.DataFrame(rows)


def draw_ratios(frame: pd.DataFrame) -> str:
    """One curve per model: flat for equal devices, rising at its end for slow ones."""
    with drawn(3.0) as (axes, out):
        for index, (model, part) in enumerate(frame.groupby("device model", sort=False)):
            share = (part["place"] + 0.5) / len(part)
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(share, part["ratio"], "o-", markersize=3, color=colour, label=str(model))
        axes.set_ylim(0, 1.08 * frame["ratio"].max())  # the topmost dot is whole
        axes.set_xlabel("share of the devices")
        axes.set_ylabel("time ÷ median of the model")
        legend(axes)
    return out.getvalue()


def ratios_text(frame: pd.DataFrame) -> str:
    """The number of devices and the range of their ratios."""
    low, high = frame["ratio"].min(), frame["ratio"].max()
    return f"{len(frame)} devices, from {low:.3g} to {high:.3g} times the median of their model."
