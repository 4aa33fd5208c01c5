"""Pictures of speed: by case, by batch size, over the run."""

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullFormatter

from xorbench.report.content import NOTHING, Picture
from xorbench.report.drawing import (
    COLOURS,
    MOST_LINES,
    drawn,
    legend,
    line_style,
    middles,
    name_rows,
    short_names,
    tally,
)
from xorbench.report.svg import INK
from xorbench.stats.figure import number
from xorbench.xor.analysis.cost_model import coefficients
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.report.tables.speed import throughput

MOST_BARS: Final = 40
NEAR: Final = 8  # ratio of speeds below which 1, 2, 5, 10, … give too few ticks


def speeds(evidence: Evidence) -> pd.DataFrame:
    """Samples per second of each case with its interval."""
    frame = throughput(evidence)
    if "samples/s" not in frame.columns:
        return NOTHING
    columns = ["case", "samples/s", "samples/s low", "samples/s high"]
    return frame.dropna(subset=["samples/s"])[columns]


def draw_speeds(frame: pd.DataFrame) -> str:
    """One bar per case, with the 95% interval as a whisker."""
    frame = frame.head(MOST_BARS)
    with drawn(0.7) as (axes, out):
        rows = middles(name_rows(axes, short_names(list(frame["case"]))))
        frame = frame.assign(row=rows)
        axes.barh(rows, frame["samples/s"], color=COLOURS[0], height=1.0)
        whiskers = frame.dropna(subset=["samples/s low"])
        errors = [
            whiskers["samples/s"] - whiskers["samples/s low"],
            whiskers["samples/s high"] - whiskers["samples/s"],
        ]
        axes.errorbar(
            whiskers["samples/s"], whiskers["row"], xerr=errors, fmt="none", ecolor=INK, capsize=2
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("samples/s (95% interval)")
        axes.grid(visible=False, axis="y")
    return out.getvalue()


def describe_speeds(frame: pd.DataFrame) -> str:
    """The slowest and the fastest case."""
    slow, fast = (frame.sort_values("samples/s").iloc[end] for end in (0, -1))
    return (
        f"{tally(len(frame), MOST_BARS)} bars,"
        f" from {number(slow['samples/s'])} samples/s ({slow['case']})"
        f" to {number(fast['samples/s'])} ({fast['case']})."
    )


def scaling(evidence: Evidence) -> pd.DataFrame:
    """Measured and fitted samples per second of each batch size."""
    rows = [
        {
            "line": " ".join(filter(None, (fit.line.device, fit.line.engine, fit.line.settings))),
            "batch size": size,
            "samples/s": samples,
            "samples/s of the line": samples / fit.predicted_ratio(batches, samples),
            "a (s a step)": fit.step_s.value,
            "b (s a sample)": fit.sample_s.value,
        }
        for fit in coefficients(evidence)
        if fit.step_s and fit.sample_s
        for size, (batches, samples) in fit.points.items()
    ]
    return pd.DataFrame(rows)


def draw_scaling(frame: pd.DataFrame) -> str:
    """One dot per batch size, and the fitted line: batch size ÷ (a + b · batch size)."""
    with drawn(3.2) as (axes, out):
        for index, (name, own) in enumerate(frame.groupby("line", sort=False)):
            sizes = np.geomspace(own["batch size"].min(), own["batch size"].max(), 60)
            step_s, sample_s = own["a (s a step)"].iloc[0], own["b (s a sample)"].iloc[0]
            style = line_style(index)
            axes.plot(sizes, sizes / (step_s + sample_s * sizes), **style, label=name)
            axes.plot(own["batch size"], own["samples/s"], "o", color=style["color"], markersize=4)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(_speed_ticks(frame["samples/s"]))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("batch size")
        axes.set_ylabel("samples/s")
        legend(axes)
    return out.getvalue()


def _speed_ticks(speeds: "pd.Series[float]") -> Locator:
    """Ticks at 1, 2, 5, 10, …, or at round numbers if those are too few."""
    near = speeds.max() < NEAR * speeds.min()
    return MaxNLocator(6) if near else LogLocator(subs=(1, 2, 5))


def describe_scaling(frame: pd.DataFrame) -> str:
    """The largest deviation of a point from its line."""
    off = (frame["samples/s"] / frame["samples/s of the line"] - 1).abs().max()
    lines = frame["line"].nunique()
    return (
        f"{lines} line{'s' if lines > 1 else ''} through {len(frame)} points, from"
        f" {number(frame['samples/s'].min())} to {number(frame['samples/s'].max())} samples/s;"
        f" the largest deviation from a line is {number(100 * off)}%."
    )


def epoch_times(evidence: Evidence) -> pd.DataFrame:
    """Epoch and calibration times ÷ their medians, by process and round: median over cases.

    One column per process, and one for its calibration.
    """
    series: dict[tuple[str, str], pd.Series] = {}
    for process in evidence.run.info.processes:
        for training in (t for t in evidence.run.trainings if t.process == process.id):
            case = training.case.id
            series[process.id, case] = pd.Series(training.epoch_s)
            calibrations = pd.Series(_numbers(training.calibration_s))
            series[f"{process.id} calibration", case] = calibrations
    if not series:
        return NOTHING
    frame = pd.DataFrame(series)
    relative = (frame / frame.median()).T.groupby(level=0, sort=False).median().T
    return relative.rename_axis("round").reset_index()


def _numbers(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def draw_epoch_times(frame: pd.DataFrame) -> str:
    """One line per process; its calibration is dotted and lighter, in the same colour."""
    processes = [name for name in frame.columns[1:] if not name.endswith(" calibration")]
    with drawn(2.9) as (axes, out):
        for index, process in enumerate(processes[:MOST_LINES]):
            style = line_style(index)
            axes.plot(frame[process], label=process, **style)
            dotted = {**style, "linestyle": ":", "alpha": 0.7, "zorder": 1}
            axes.plot(frame[f"{process} calibration"], **dotted)
        axes.plot([], ":", color=INK, label="calibration")
        axes.set_xlabel("round")
        axes.set_ylabel("time ÷ its median")
        legend(axes)
    return out.getvalue()


def describe_epoch_times(frame: pd.DataFrame) -> str:
    """The drift of the machine."""
    values = frame.drop(columns="round")
    return (
        f"Processes: {tally(values.shape[1] // 2, MOST_LINES)}. {len(frame)} rounds; epoch times"
        f" between {number(values.min().min())} and {number(values.max().max())} times their"
        " median."
    )


THROUGHPUT: Final = Picture(
    "throughput",
    "Speed by case",
    "Samples per second of each case; the whisker is the 95% interval",
    speeds,
    draw_speeds,
    describe_speeds,
    "throughput",
)
SCALING: Final = Picture(
    "scaling",
    "Speed by batch size",
    "Samples per second by batch size (dots), and the fitted line with cost a per step, b per"
    " sample",
    scaling,
    draw_scaling,
    describe_scaling,
    "throughput",
)
EPOCHS: Final = Picture(
    "epochs",
    "Epoch times over the run",
    "Epoch time over the run, relative to each case's median, and the calibration time of"
    " the same rounds: if both change together, the machine changed",
    epoch_times,
    draw_epoch_times,
    describe_epoch_times,
    "throughput",
)
