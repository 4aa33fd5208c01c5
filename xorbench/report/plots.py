"""Pictures of a run as SVG. Colours are Okabe and Ito's, safe for colour-blind readers."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, overload

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xorbench.judge.evidence import Evidence
from xorbench.observe.records import Run
from xorbench.report.tables import throughput

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xorbench",  # the same run gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
}


def throughput_plot(run: Run) -> str:
    """Samples per second of each case, with the 95 % interval as a whisker."""
    frame = throughput(run)
    if "samples/s" not in frame.columns:
        return ""
    frame = frame.dropna(subset=["samples/s"]).iloc[::-1]
    with drawn(len(frame) * 0.24 + 1) as (axes, out):
        axes.barh(frame["case"], frame["samples/s"], color=COLOURS[0], height=0.7)
        whiskers = frame.dropna(subset=["samples/s low"])
        axes.errorbar(
            whiskers["samples/s"],
            whiskers["case"],
            xerr=_errors(whiskers),
            fmt="none",
            ecolor=COLOURS[6],
            capsize=2,
        )
        axes.set_xlabel("samples/s (95 % interval between workers)")
        axes.grid(visible=False, axis="y")
    return out.getvalue()


def _errors(frame: pd.DataFrame) -> list[pd.Series]:
    return [
        frame["samples/s"] - frame["samples/s low"],
        frame["samples/s high"] - frame["samples/s"],
    ]


def loss_plot(run: Run) -> str:
    """Loss of the last step of each epoch: a line for each distinct training."""
    evidence = Evidence(run)
    distinct: dict[str, str] = {}
    for subject in evidence.subjects:
        distinct.setdefault(evidence.first(subject).weights_sha256, subject.id)
    if not distinct:
        return ""
    with drawn(3.6) as (axes, out):
        for number, case in enumerate(list(distinct.values())[:12]):
            losses = [float("nan") if x is None else x for x in evidence.trainings[case][0].losses]
            style = ("-", "--")[number // len(COLOURS) % 2]
            axes.plot(losses, style, color=COLOURS[number % len(COLOURS)], label=case, linewidth=1)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss of the last step")
        axes.legend(fontsize=7, frameon=False)
    return out.getvalue()


def epochs_plot(run: Run) -> str:
    """Seconds of every epoch over the run, relative to its case's median: drift and noise."""
    evidence = Evidence(run)
    if not evidence.subjects:
        return ""
    with drawn(3.0) as (axes, out):
        for number, worker in enumerate(run.info.workers):
            mine = [t for t in run.trainings if t.worker == worker.id]
            if mine:
                relative = pd.DataFrame({t.case.id: pd.Series(t.epoch_s) for t in mine})
                middle = (relative / relative.median()).median(axis="columns")
                axes.plot(middle, color=COLOURS[number % 7], label=worker.id, linewidth=1)
        axes.set_xlabel("round")
        axes.set_ylabel("epoch time ÷ case median")
        axes.legend(frameon=False)
    return out.getvalue()


PLOTS: Final[dict[str, Callable[[Run], str]]] = {
    "throughput": throughput_plot,
    "loss": loss_plot,
    "epochs": epochs_plot,
}


@overload
def drawn(height: float) -> AbstractContextManager[tuple[Axes, io.StringIO]]: ...


@overload
def drawn(
    height: float, *, columns: int
) -> AbstractContextManager[tuple[list[Axes], io.StringIO]]: ...


@contextmanager
def drawn(height: float, *, columns: int | None = None) -> Iterator[tuple[Any, io.StringIO]]:
    """An empty picture, as high as asked for in inches; its SVG is in the text at the end."""
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, height), layout="constrained")
        yield figure.subplots() if columns is None else list(figure.subplots(1, columns)), out
        figure.savefig(out, format="svg", metadata={"Date": None})
