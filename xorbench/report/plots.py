"""Pictures of a run: the figures in a frame, and the frame drawn as SVG."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.ticker import LogLocator, NullFormatter

from xorbench.judge.cost_model import constants
from xorbench.judge.evidence import Evidence
from xorbench.judge.stats import RealArray
from xorbench.judge.weights import values_of
from xorbench.observe.records import Run, TrainingRecord, WeightRecord
from xorbench.plan.boundary import GRID
from xorbench.plan.case import Variant
from xorbench.plan.registry import Registry
from xorbench.report.drawing import COLOURS, INK, MOST_LINES, drawn, line_style, short_names
from xorbench.report.tables import throughput
from xorbench.report.text import number

MOST_BARS: Final = 60
MOST_IN_MATRIX: Final = 40
LOW: Final = -0.6
HIGH: Final = 1.6
NOTHING: Final = pd.DataFrame()


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of a run's report.

    Attributes:
        data: the function from a run to the figures; they become the CSV file beside it.
        draw: from the figures to SVG.
        describe: from the figures to words, for who cannot see it.
        under: the table that it is shown with.
    """

    name: str
    title: str
    caption: str
    data: Callable[[Run], pd.DataFrame]
    draw: Callable[[pd.DataFrame], str]
    describe: Callable[[pd.DataFrame], str]
    under: str


# Throughput


def speeds(run: Run) -> pd.DataFrame:
    """Samples per second of each case with its interval."""
    frame = throughput(run)
    if "samples/s" not in frame.columns:
        return NOTHING
    columns = ["case", "samples/s", "samples/s low", "samples/s high"]
    return frame.dropna(subset=["samples/s"])[columns].head(MOST_BARS)


def draw_speeds(frame: pd.DataFrame) -> str:
    """A bar a case, the 95 % interval as a whisker."""
    frame = frame.assign(case=short_names(list(frame["case"]))).iloc[::-1]
    with drawn(len(frame) * 0.21 + 0.9) as (axes, out):
        axes.barh(frame["case"], frame["samples/s"], color=COLOURS[0], height=0.7)
        whiskers = frame.dropna(subset=["samples/s low"])
        errors = [
            whiskers["samples/s"] - whiskers["samples/s low"],
            whiskers["samples/s high"] - whiskers["samples/s"],
        ]
        axes.errorbar(
            whiskers["samples/s"], whiskers["case"], xerr=errors, fmt="none", ecolor=INK, capsize=2
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("samples/s (95 % interval between processes)")
        axes.grid(visible=False, axis="y")
    return out.getvalue()


def say_speeds(frame: pd.DataFrame) -> str:
    """From the slowest case to the fastest."""
    slow, fast = (frame.sort_values("samples/s").iloc[end] for end in (0, -1))
    return (
        f"{len(frame)} bars, from {number(slow['samples/s'])} samples/s ({slow['case']})"
        f" to {number(fast['samples/s'])} ({fast['case']})."
    )


# Speed by batch size


def scaling(run: Run) -> pd.DataFrame:
    """Samples per second of each batch size, and what the fitted line says of it."""
    rows = [
        {
            "line": " ".join(filter(None, (fit.line.device, fit.line.engine, fit.line.settings))),
            "batch size": size,
            "samples/s": samples,
            "samples/s of the line": samples / fit.off(batches, samples),
            "a (s a step)": fit.step_s.value,
            "b (s a sample)": fit.sample_s.value,
        }
        for fit in constants(Evidence(run))
        if fit.step_s and fit.sample_s
        for size, (batches, samples) in fit.points.items()
    ]
    return pd.DataFrame(rows)


def draw_scaling(frame: pd.DataFrame) -> str:
    """A dot a batch size, the line through them: batch size ÷ (a + b · batch size)."""
    with drawn(3.2) as (axes, out):
        for index, (name, own) in enumerate(frame.groupby("line", sort=False)):
            sizes = np.geomspace(own["batch size"].min(), own["batch size"].max(), 60)
            step_s, sample_s = own["a (s a step)"].iloc[0], own["b (s a sample)"].iloc[0]
            style = line_style(index)
            axes.plot(sizes, sizes / (step_s + sample_s * sizes), **style, label=name)
            axes.plot(own["batch size"], own["samples/s"], "o", color=style["color"], markersize=4)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,.0f}")
        axes.tick_params(axis="y", which="minor", labelsize=7)
        axes.set_xlabel("batch size")
        axes.set_ylabel("samples/s")
        axes.legend()
    return out.getvalue()


def say_scaling(frame: pd.DataFrame) -> str:
    """How far the points lie off their lines."""
    off = (frame["samples/s"] / frame["samples/s of the line"] - 1).abs().max()
    lines = frame["line"].nunique()
    return (
        f"{lines} line{'s' if lines > 1 else ''} through {len(frame)} points, from"
        f" {number(frame['samples/s'].min())} to {number(frame['samples/s'].max())} samples/s;"
        f" the farthest point lies {number(100 * off)} % off its line."
    )


# Epoch times over the run


def epoch_times(run: Run) -> pd.DataFrame:
    """Epoch and calibration time by process and round, over their medians: median of all cases.

    A column for each process, and one for its calibration.
    """
    columns: dict[str, pd.Series] = {}
    for process in run.info.processes:
        mine = [t for t in run.trainings if t.process == process.id]
        if mine:
            columns[process.id] = _relative({t.case.id: list(t.epoch_s) for t in mine})
            calibrations = {t.case.id: _numbers(t.calibration_s) for t in mine}
            columns[f"{process.id} calibration"] = _relative(calibrations)
    return pd.DataFrame(columns).rename_axis("round").reset_index() if columns else NOTHING


def _relative(series: Mapping[str, list[float]]) -> pd.Series:
    frame = pd.DataFrame({name: pd.Series(values) for name, values in series.items()})
    return (frame / frame.median()).median(axis="columns")


def _numbers(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def draw_epoch_times(frame: pd.DataFrame) -> str:
    """A line a process, its calibration dotted in the same colour."""
    processes = [name for name in frame.columns[1:] if not name.endswith(" calibration")]
    with drawn(2.9) as (axes, out):
        for index, process in enumerate(processes[: len(COLOURS)]):
            colour = COLOURS[index]
            axes.plot(frame[process], color=colour, label=process, linewidth=1.2)
            axes.plot(
                frame[f"{process} calibration"],
                ":",
                color=colour,
                label=f"{process} calibration",
                linewidth=1.2,
            )
        axes.set_xlabel("round")
        axes.set_ylabel("time ÷ its median")
        axes.legend(ncols=2)
    return out.getvalue()


def say_epoch_times(frame: pd.DataFrame) -> str:
    """How far the machine wandered."""
    values = frame.drop(columns="round")
    return (
        f"{len(frame)} rounds; epoch times between {number(values.min().min())} and"
        f" {number(values.max().max())} times their median."
    )


# Loss


def losses(run: Run) -> pd.DataFrame:
    """Loss of the last step of each epoch: a column for each distinct training."""
    evidence = Evidence(run)
    distinct: dict[str, Variant] = {}
    for variant in evidence.variants:
        distinct.setdefault(evidence.first(variant).weights_sha256, variant)
    shown = list(distinct.values())[:MOST_LINES]
    columns = {s.id: pd.Series(_numbers(evidence.first(s).losses)) for s in shown}
    return pd.DataFrame(columns).rename_axis("epoch").reset_index() if columns else NOTHING


def draw_losses(frame: pd.DataFrame) -> str:
    """A line a training."""
    cases = list(frame.columns[1:])
    with drawn(3.2) as (axes, out):
        for index, (case, label) in enumerate(zip(cases, short_names(cases), strict=True)):
            axes.plot(frame["epoch"], frame[case], label=label, **line_style(index))
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss of the last step")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # plain figures: powers of ten take long to set
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.legend()
    return out.getvalue()


def say_losses(frame: pd.DataFrame) -> str:
    """Where they begin and where they end."""
    first, last = frame.drop(columns="epoch").iloc[0], frame.drop(columns="epoch").iloc[-1]
    return (
        f"{len(first)} lines over {len(frame)} epochs, from {number(first.median())}"
        f" down to between {number(last.min())} and {number(last.max())}."
    )


# The decision boundary


def answers(run: Run) -> pd.DataFrame:
    """The test points, their labels, and what the first training answers there.

    The frame's attribute `logits` is its output over the plane, [x1, x0], each from LOW to HIGH.
    """
    training = _pictured(run)
    if training is None or run.points is None or training.weights is None:
        return NOTHING
    count = len(run.points.labels)
    frame = pd.DataFrame(
        {
            "x0": run.points.x0,
            "x1": run.points.x1,
            "label": run.points.labels,
            "answer": [int(answer) for answer in training.predictions[:count]],
        }
    )
    axis = np.linspace(LOW, HIGH, GRID)
    x0, x1 = (side.ravel() for side in np.meshgrid(axis, axis))
    frame.attrs["logits"] = _logits(training.weights, x0, x1).reshape(GRID, GRID)
    return frame


def _pictured(run: Run) -> TrainingRecord | None:
    """The first training of the seed whose points are kept that has weights as this network's."""
    return next(
        (
            t
            for t in run.trainings
            if run.points is not None
            and t.case.seed == run.points.seed
            and t.weights is not None
            and set(t.weights) == {f"layer{n}.{kind}" for n in "12" for kind in ("weight", "bias")}
        ),
        None,
    )


def _logits(weights: Mapping[str, WeightRecord], x0: RealArray, x1: RealArray) -> RealArray:
    w1, b1, w2, b2 = (
        values_of(weights[name]).reshape(weights[name].shape)
        for name in ("layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias")
    )
    hidden = np.tanh(np.stack([x0, x1], axis=1) @ w1.T + b1)
    return np.asarray(hidden @ w2.T + b2, dtype=float).ravel()


def draw_answers(frame: pd.DataFrame) -> str:
    """Where it answers 1, the test points by label; a cross is a wrong one."""
    extent = (LOW, HIGH, LOW, HIGH)
    logits = frame.attrs["logits"]
    with drawn(4.4) as (axes, out):
        axes.contourf(
            logits > 0,
            levels=[-0.5, 0.5, 1.5],
            extent=extent,
            cmap=ListedColormap(COLOURS[:2]),
            alpha=0.15,
        )
        axes.contour(logits, levels=[0.0], extent=extent, colors=INK, linewidths=1)
        for label, marker in enumerate("os"):
            own = frame[frame["label"] == label]
            axes.scatter(
                own["x0"], own["x1"], s=7, marker=marker, color=COLOURS[label], label=f"{label}"
            )
        wrong = frame[frame["label"] != frame["answer"]]
        if len(wrong):
            axes.scatter(wrong["x0"], wrong["x1"], s=40, marker="x", color=INK, label="wrong")
        axes.set_xlabel("x0")
        axes.set_ylabel("x1")
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.legend(title="label", loc="upper left", bbox_to_anchor=(1, 1))
    return out.getvalue()


def say_answers(frame: pd.DataFrame) -> str:
    """How many points lie on the right side."""
    right = int((frame["label"] == frame["answer"]).sum())
    return f"{right} of {len(frame)} test points lie on the side of their label."


# The same bits


def same_bits(run: Run) -> pd.DataFrame:
    """A matrix of cases: 1 where two have the same weights, 0 where they have others."""
    evidence = Evidence(run)
    variants = evidence.variants[:MOST_IN_MATRIX]
    digests = {variant.id: evidence.first(variant).weights_sha256 for variant in variants}
    if len(digests) < 2:
        return NOTHING
    rows = {name: [int(mine == d) for d in digests.values()] for name, mine in digests.items()}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(digests))
    return frame.rename_axis("case").reset_index()


def draw_same_bits(frame: pd.DataFrame) -> str:
    """A filled square where two cases have the same bits."""
    names = short_names(list(frame["case"]))
    cells = frame.drop(columns="case").to_numpy()
    with drawn(len(names) * 0.16 + 1.6) as (axes, out):
        axes.pcolormesh(
            cells,
            cmap=ListedColormap(["#7f7f7f22", COLOURS[0]]),
            vmin=0,
            vmax=1,
            edgecolors="#7f7f7f55",
            linewidth=0.5,
        )
        middle = np.arange(len(names)) + 0.5
        axes.set_xticks(middle, names, rotation=90, fontsize=7)
        axes.set_yticks(middle, names, fontsize=7)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.tick_params(length=0)
    return out.getvalue()


def say_same_bits(frame: pd.DataFrame) -> str:
    """How many distinct results there are."""
    cells = frame.drop(columns="case")
    return f"{len(cells)} cases, {len(cells.drop_duplicates())} distinct sets of weights."


PLOTS: Final = Registry(
    "plots",
    Plot,
    (
        Plot(
            "throughput",
            "Speed by case",
            "Samples per second of each case; the whisker is the 95 % interval",
            speeds,
            draw_speeds,
            say_speeds,
            "throughput",
        ),
        Plot(
            "scaling",
            "Speed by batch size",
            "Samples per second by batch size (dots), and the fitted line: a step costs a, a sample"
            " b",
            scaling,
            draw_scaling,
            say_scaling,
            "throughput",
        ),
        Plot(
            "epochs",
            "Epoch times over the run",
            "Epoch time over the run, relative to each case's median, and the calibration time of"
            " the same rounds: where both move together it was the machine",
            epoch_times,
            draw_epoch_times,
            say_epoch_times,
            "throughput",
        ),
        Plot(
            "loss",
            "Loss",
            "Loss of the last step of each epoch, one line for each distinct training",
            losses,
            draw_losses,
            say_losses,
            "accuracy",
        ),
        Plot(
            "boundary",
            "Decision boundary",
            "Where the first training answers 1, and the test points by label; a cross is a wrong"
            " one",
            answers,
            draw_answers,
            say_answers,
            "accuracy",
        ),
        Plot(
            "same-bits",
            "Which cases have the same bits",
            "A filled square: the two cases have the same weights to the last bit",
            same_bits,
            draw_same_bits,
            say_same_bits,
            "determinism",
        ),
    ),
)
