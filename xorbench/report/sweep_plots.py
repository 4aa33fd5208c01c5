"""Pictures of a sweep as SVG."""

from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from xorbench.judge.sweep import SweepEvidence
from xorbench.observe.records import Example
from xorbench.report.plots import COLOURS, drawn


def success_plot(evidence: SweepEvidence) -> str:
    """Share of seeds that are all right after each epoch, one line a batch size."""
    begun = [tally for tally in evidence.tallies if tally.seeds]
    if not begun:
        return ""
    with drawn(3.6) as (axes, out):
        for number, tally in enumerate(begun):
            shares = [100 * right / tally.seeds for right in tally.right_after]
            label = f"batch {tally.batch_size}, {tally.seeds:,} seeds"
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(range(1, tally.epochs + 1), shares, color=colour, label=label, linewidth=1.2)
        axes.set_xlabel("epochs")
        axes.set_ylabel("all test points right (% of seeds)")
        axes.set_ylim(0, 100)
        axes.legend(frameon=False)
    return out.getvalue()


def boundary_plot(evidence: SweepEvidence) -> str:
    """Where each example answers 1, with its test points by label; a cross is a wrong one."""
    if not evidence.examples:
        return ""
    with drawn(3.9, columns=2) as (panels, out):
        for panel in panels:
            panel.set_visible(False)
        for panel, example in zip(panels, evidence.examples, strict=False):
            panel.set_visible(True)
            _draw(panel, example)
    return out.getvalue()


def _draw(axes: Axes, example: Example) -> None:
    extent = (example.low, example.high, example.low, example.high)
    halves = [[int(logit >= 0) for logit in row] for row in example.logits]
    axes.imshow(
        halves,
        origin="lower",
        extent=extent,
        cmap=ListedColormap(COLOURS[:2]),
        vmin=0,
        vmax=1,
        alpha=0.18,
    )
    axes.contour(example.logits, levels=[0.0], extent=extent, colors=COLOURS[6], linewidths=1)
    for label, marker in enumerate("os"):
        points = [i for i, found in enumerate(example.labels) if found == label]
        axes.scatter(
            [example.x0[i] for i in points],
            [example.x1[i] for i in points],
            s=5,
            marker=marker,
            color=COLOURS[label],
            label=f"label {label}",
        )
    wrong = [i for i, right in enumerate(example.right) if not right]
    axes.scatter(
        [example.x0[i] for i in wrong],
        [example.x1[i] for i in wrong],
        s=28,
        marker="x",
        color=COLOURS[6],
        linewidths=0.9,
    )
    axes.set_title(
        f"batch {example.batch_size}, seed {example.seed}: {example.correct}/{example.total}",
        fontsize=9,
    )
    axes.set_xlabel("x0")
    axes.set_ylabel("x1")
    axes.grid(visible=False)
    axes.legend(fontsize=7, loc="upper right")
