"""Pictures of what was learned: the loss, and the decision boundary."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from xorbench.records.schema.run import Run
from xorbench.records.schema.training import TrainingRecord, WeightRecord
from xorbench.report.content import NOTHING, Picture
from xorbench.report.drawing import (
    MOST_LINES,
    draw_boundary,
    draw_points,
    drawn,
    legend,
    line_style,
    short_names,
    tally,
)
from xorbench.report.svg import INK
from xorbench.stats.figure import number
from xorbench.stats.intervals import RealArray
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.weights import values_of
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.recipe import GRID
from xorbench.xor.report.plots.speed import _numbers

LOW: Final = -0.6
HIGH: Final = 1.6


def losses(evidence: Evidence) -> pd.DataFrame:
    """Loss of the last step of each epoch: one column per distinct training."""
    distinct: dict[str, Variant] = {}
    for variant in evidence.variants:
        distinct.setdefault(evidence.first(variant).weights_sha256, variant)
    columns = {s.id: pd.Series(_numbers(evidence.first(s).losses)) for s in distinct.values()}
    return pd.DataFrame(columns).rename_axis("epoch").reset_index() if columns else NOTHING


def draw_losses(frame: pd.DataFrame) -> str:
    """One line per training."""
    cases = list(frame.columns[1:])[:MOST_LINES]
    with drawn(3.2) as (axes, out):
        for index, (case, label) in enumerate(zip(cases, short_names(cases), strict=True)):
            axes.plot(frame["epoch"], frame[case], label=label, **line_style(index))
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss of the last step")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # plain figures: powers of ten take long to set
        axes.yaxis.set_minor_formatter(NullFormatter())
        legend(axes)
    return out.getvalue()


def describe_losses(frame: pd.DataFrame) -> str:
    """The first and the last losses."""
    first, last = frame.drop(columns="epoch").iloc[0], frame.drop(columns="epoch").iloc[-1]
    return (
        f"{tally(len(first), MOST_LINES)} lines over {len(frame)} epochs,"
        f" from {number(first.median())}"
        f" down to between {number(last.min())} and {number(last.max())}."
    )


def answers(evidence: Evidence) -> pd.DataFrame:
    """The test points, their labels, and the predictions of the first training.

    The frame's attribute `logits` is its output over the plane, [x1, x0], each from LOW to HIGH.
    """
    run, training = evidence.run, _pictured(evidence.run)
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
    """The first training of the seed with stored points that has the weights of this network."""
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
    """The area of prediction 1, and the test points by label; a cross is a mismatch."""
    logits = frame.attrs["logits"]
    with drawn(3.8) as (axes, out):
        draw_boundary(axes, logits > 0, logits, (LOW, HIGH, LOW, HIGH))
        draw_points(axes, frame, 7)
        wrong = frame[frame["label"] != frame["answer"]]
        if len(wrong):
            axes.scatter(wrong["x0"], wrong["x1"], s=40, marker="x", color=INK, label="incorrect")
        legend(axes)
    return out.getvalue()


def describe_answers(frame: pd.DataFrame) -> str:
    """The number of points on the side of their label."""
    correct = int((frame["label"] == frame["answer"]).sum())
    return f"{correct} of {len(frame)} test points are on the side of their label."


LOSS: Final = Picture(
    "loss",
    "Loss",
    "Loss of the last step of each epoch, one line for each distinct training",
    losses,
    draw_losses,
    describe_losses,
    "accuracy",
)
BOUNDARY: Final = Picture(
    "boundary",
    "Decision boundary",
    "Where the first training predicts 1, and the test points by label; a cross is incorrect",
    answers,
    draw_answers,
    describe_answers,
    "accuracy",
)
