"""Draw the training points of xor.py, and the decision boundary of its saved network.

python xor.py && python xor_plot.py    write xor-data.png and xor-boundary.png
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xor import SimpleClassifier, XORDataset, stream

COLOURS = ("#0072B2", "#D55E00")
LOW, HIGH = -0.5, 1.5


def draw_points(axes: Axes, data: XORDataset) -> None:
    """One marker per point, by label."""
    for label, marker in enumerate("os"):
        points = data.points[data.labels == label]
        axes.scatter(
            *points.T, s=9, marker=marker, color=COLOURS[label], label=f"label {label}", alpha=0.6
        )
    axes.set(xlabel="x1", ylabel="x2", xlim=(LOW, HIGH), ylim=(LOW, HIGH), aspect="equal")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


@torch.no_grad()
def draw_boundary(axes: Axes, model: SimpleClassifier) -> None:
    """Shade the plane by the predicted label."""
    axis = torch.linspace(LOW, HIGH, 201)
    x1, x2 = torch.meshgrid(axis, axis, indexing="xy")
    logits = model(torch.stack([x1, x2], dim=-1)).squeeze(-1)
    axes.contourf(x1, x2, logits, levels=[-1e9, 0, 1e9], colors=COLOURS, alpha=0.2)
    axes.contour(x1, x2, logits, levels=[0], colors="black", linewidths=1)


def picture() -> tuple[Figure, Axes]:
    """An empty picture of 440 × 440 pixels."""
    figure = Figure(figsize=(4, 4), dpi=110, layout="constrained")
    return figure, figure.subplots()


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("xor.pt"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the pictures")
    args = parser.parse_args()
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

    figure, axes = picture()
    draw_points(axes, XORDataset(2500, stream(args.seed, "train")))
    figure.savefig(args.out / "xor-data.png")

    model = SimpleClassifier()
    model.load_state_dict(torch.load(args.weights, map_location="cpu", weights_only=True))
    figure, axes = picture()
    draw_boundary(axes, model)
    draw_points(axes, XORDataset(500, stream(args.seed, "test")))
    figure.savefig(args.out / "xor-boundary.png")


if __name__ == "__main__":
    main()
