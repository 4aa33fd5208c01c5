"""Plots of a sweep as SVG."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from xorbench.machine.sweep.results import SweepEvidence
from xorbench.records.schema.sweep import Example
from xorbench.report.drawing import draw_boundary, draw_points, drawn, legend, line_style
from xorbench.report.svg import INK


def shares(evidence: SweepEvidence) -> pd.DataFrame:
    """The percentage of all-correct seeds after each epoch, one column per batch size."""
    columns = {
        f"batch {t.batch_size}, {t.seeds:,} seeds": pd.Series(t.correct_after) * 100 / t.seeds
        for t in evidence.tallies
        if t.seeds
    }
    return pd.DataFrame(columns).rename_axis("epoch").reset_index() if columns else pd.DataFrame()


def draw_shares(frame: pd.DataFrame) -> str:
    """Draw one line per batch size."""
    with drawn(3.2) as (axes, out):
        for number, name in enumerate(frame.columns[1:]):
            axes.plot(frame["epoch"], frame[name], label=name, **line_style(number))
        axes.set_xlabel("epoch")
        axes.set_ylabel("all test points correct (% of seeds)")
        axes.set_ylim(0, 100)
        legend(axes)
    return out.getvalue()


def shares_text(frame: pd.DataFrame) -> str:
    """The final percentages as a sentence."""
    last = frame.drop(columns="epoch").iloc[-1]
    ends = ", ".join(f"{name}: {share:.1f}%" for name, share in last.items())
    return f"After {len(frame)} epochs {ends}."


def shown_points(evidence: SweepEvidence) -> pd.DataFrame:
    """The test points of the examples, and whether each is correct."""
    frames = [
        _points(example).assign(**{"batch size": example.batch_size, "seed": example.seed})
        for example in evidence.examples
    ]
    columns = ["batch size", "seed", "x0", "x1", "label", "correct"]
    return pd.concat(frames)[columns] if frames else pd.DataFrame()


def _points(example: Example) -> pd.DataFrame:
    correct = [int(is_correct) for is_correct in example.right]
    points = {"x0": example.x0, "x1": example.x1, "label": example.labels, "correct": correct}
    return pd.DataFrame(points)


def points_text(frame: pd.DataFrame) -> str:
    """The numbers of correct points of the models as a sentence."""
    counts = frame.groupby(["batch size", "seed"])["correct"].agg(["sum", "count"])
    sentences = (
        f"batch {size}, seed {seed}: {correct} of {total}"
        for (size, seed), (correct, total) in zip(counts.index, counts.to_numpy(), strict=True)
    )
    return f"Correct test points: {'; '.join(sentences)}."


def draw_examples(evidence: SweepEvidence) -> str:
    """Draw each example's decision region with its test points; a cross marks a wrong one."""
    with drawn(2.9, columns=2) as (panels, out):
        for panel in panels:
            panel.set_visible(False)
        for panel, example in zip(panels, evidence.examples, strict=False):
            panel.set_visible(True)
            _draw(panel, example)
        legend(panels[0])
    return out.getvalue()


def _draw(axes: Axes, example: Example) -> None:
    extent = (example.low, example.high, example.low, example.high)
    halves = [[int(logit >= 0) for logit in row] for row in example.logits]
    draw_boundary(axes, halves, example.logits, extent)
    points = _points(example)
    draw_points(axes, points, 5)
    wrong = points[points["correct"] == 0]
    cross: dict[str, Any] = {"s": 28, "marker": "x", "color": INK, "linewidths": 0.9}
    axes.scatter(wrong["x0"], wrong["x1"], label="wrong", **cross)
    axes.set_title(
        f"batch {example.batch_size}, seed {example.seed}: {example.correct}/{example.total}",
        fontsize=8,
    )
