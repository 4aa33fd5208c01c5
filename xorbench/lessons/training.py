"""Lessons on loss, gradients, the shape of the problem, and what 100% rests on."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from xorbench.lessons.finding import LessonFinding, accelerator, found
from xorbench.lessons.networks import MakeNetwork, fresh, linear, points, simple, train
from xorbench.universal.spec import UniversalRecipe
from xorbench.universal.torch_backend import train as train_many
from xorbench.universal.trained import Trained
from xorbench.workload.xor import loss_of, score

LARGEST_LOGIT: Final = 200
SEEDS: Final = range(48)
BATCH_SIZES: Final = (128, 512)

Loss = Callable[[Tensor, Tensor], Tensor]


def sigmoid_then_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss in two parts."""
    return functional.binary_cross_entropy(torch.sigmoid(logits), labels, reduction="none")


def with_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss in one."""
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def stable_loss(in_parts: Loss = sigmoid_then_bce) -> LessonFinding:
    """Both losses over whole logits up to ±200, label 0, against the same in float64."""
    logits = torch.arange(-LARGEST_LOGIT, LARGEST_LOGIT + 1, dtype=torch.float32)
    exact = functional.softplus(logits.double(), threshold=LARGEST_LOGIT * 2)
    errors, slopes = {}, {}
    for name, loss in (("BCEWithLogitsLoss", with_logits), ("sigmoid + BCELoss", in_parts)):
        given = logits.clone().requires_grad_()
        values = loss(given, torch.zeros_like(given))
        values.sum().backward()
        assert given.grad is not None
        errors[name] = float((values.detach().double() - exact).abs().max())
        slopes[name] = float(given.grad[-1])
    one, parts = errors
    return found(
        errors[one] < 1e-4 and errors[parts] > 1,
        f"largest error over logits of ±{LARGEST_LOGIT}: {errors[one]:.1g} and {errors[parts]:.3g}"
        f" ({one}, {parts}); slope at {LARGEST_LOGIT}, which is 1: {slopes[one]:g} and"
        f" {slopes[parts]:g}",
    )


def accumulate(between: Callable[[nn.Module], object] = lambda _network: None) -> LessonFinding:
    """Go backward twice over one batch, with nothing between; compare with once, bit for bit."""
    network, data = fresh(simple), points()
    once = _gradient(network, data.points, data.labels)
    between(network)
    twice = _gradient(network, data.points, data.labels)
    times = float(twice.norm() / once.norm())
    return found(torch.equal(twice, 2 * once), f"the second gradient is {times:g} times the first")


def _gradient(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    loss_of(network(inputs), labels).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def moved_once(device: str | None = None) -> LessonFinding:
    """Move the network, then see where it stays, and what a batch that was left behind gives.

    Without an accelerator the move is to `meta`, PyTorch's device without memory: it keeps the
    rules of a device and computes nothing.
    """
    place = device or accelerator() or "meta"
    network, data = fresh(simple).to(place), points()
    accepted = 0
    for batch in (data.points[:128], data.points[:128].to(place)):
        try:
            network(batch)
            accepted += 1
        except RuntimeError:
            pass
    stayed = sum(p.device.type == torch.device(place).type for p in network.parameters())
    return found(
        stayed == len(list(network.parameters())) and accepted == 1,
        f"on {place}: {stayed} tensors stay there after one move; of a batch on the CPU and one"
        f" moved after it {accepted} is accepted",
    )


def linear_fails(make: MakeNetwork = linear) -> LessonFinding:
    """Train a linear model as long as the network, and the network itself beside it."""
    cpu, scores = torch.device("cpu"), []
    for one in (make, simple):
        network = fresh(one)
        train(network, epochs=100)
        scores.append(score(network, points(), 500, cpu))
    line, curve = scores
    return found(
        line.correct < line.total == curve.correct,
        f"{line.correct} of {line.total} test points after 100 epochs; the network with a hidden"
        f" layer {curve.correct}",
    )


def chance(train_seeds: Callable[..., Trained] = train_many) -> LessonFinding:
    """Train many seeds by the universal training at two batch sizes; count the all right."""
    right = {
        size: train_seeds(UniversalRecipe(batch_size=size, drop_last=True), SEEDS).all_correct()
        for size in BATCH_SIZES
    }
    one, other = right.values()
    return found(
        one != other and (0 < one < len(SEEDS) or 0 < other < len(SEEDS)),
        "; ".join(f"batch size {size}: {n} of {len(SEEDS)} seeds" for size, n in right.items()),
    )
