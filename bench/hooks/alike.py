"""Faults that change a whole process in the same way wherever it runs, each by a size.

A fault replaces a function of PyTorch or of the workload. `undo` puts everything back.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data._utils import collate

from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training import problem
from xorbench.xor.training import training as loop
from xorbench.xor.training.float64 import rounded

_changed: list[tuple[Any, str, Any]] = []


def replace(owner: Any, name: str, new: Callable[[Any], Any]) -> None:
    """Replace a function by what `new` makes of it."""
    sound = getattr(owner, name)
    _changed.append((owner, name, sound))
    setattr(owner, name, new(sound))


def undo() -> None:
    """Put back what was replaced, the last first."""
    while _changed:
        owner, name, sound = _changed.pop()
        setattr(owner, name, sound)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, what its size means, how it changes the process, the size to begin at.

    `single` faults have one size only.
    """

    kind: str
    about: str
    change: Callable[[float], None]
    largest: float
    single: bool = False


# Operators


def scaled_tanh(size: float) -> None:
    replace(torch, "tanh", lambda sound: lambda x: sound(x) * (1 + size))


def scaled_linear(size: float) -> None:
    replace(functional, "linear", lambda sound: lambda x, w, b: sound(x, w, b) * (1 + size))


def shifted_linear(size: float) -> None:
    replace(functional, "linear", lambda sound: lambda x, w, b: sound(x, w, b) + size)


def saturated_tanh(size: float) -> None:
    replace(torch, "tanh", lambda sound: lambda x: sound(x).clamp(-1 + size, 1 - size))


def cut_linear(size: float) -> None:
    """Operands of products in fewer bits: the straight-through way, as a matrix unit has it."""
    bits = max(1, round(-torch.log2(torch.tensor(size)).item()))

    def cut(x: Tensor) -> Tensor:
        return x + (torch.from_numpy(rounded(x.detach().numpy(), bits)) - x.detach())

    replace(functional, "linear", lambda sound: lambda x, w, b: sound(cut(x), cut(w), b))


# Samples and labels, in a share of the batches


def _chosen(tensor: Tensor, share: float) -> bool:
    """Whether the tensor is among this share: by its values, so that all processes choose alike."""
    return int(tensor.double().sum().abs() * 2**30) % max(1, round(1 / share)) == 0


def _in_batches(size: float, act: Callable[[Tensor, Tensor], None]) -> None:

    def around(sound: Callable[..., Any]) -> Callable[..., Any]:
        def collated(batch: Sequence[Any], **options: Any) -> Any:
            points, labels = sound(batch, **options)
            if _chosen(points, size):
                act(points, labels)
            return [points, labels]

        return collated

    replace(collate, "default_collate", around)


def replaced_sample(size: float) -> None:
    def act(points: Tensor, labels: Tensor) -> None:
        points[0], labels[0] = points[1].clone(), labels[1].clone()

    _in_batches(size, act)


def flipped_label(size: float) -> None:
    def act(_points: Tensor, labels: Tensor) -> None:
        labels[0] = 1 - labels[0]

    _in_batches(size, act)


def moved_sample(size: float) -> None:
    def act(points: Tensor, _labels: Tensor) -> None:
        points[0] += size

    _in_batches(1.0, act)


def smoothed_labels(size: float) -> None:
    name = "binary_cross_entropy_with_logits"
    replace(
        functional,
        name,
        lambda sound: lambda z, y, *a, **k: sound(z, y + size * (0.5 - y), *a, **k),
    )


# Noise, order, initialisation


def scaled_noise(size: float) -> None:
    replace(torch, "randn", lambda sound: lambda *a, **k: sound(*a, **k) * (1 + size))


def rounded_noise(_size: float) -> None:
    replace(torch, "randn", lambda sound: lambda *a, **k: sound(*a, **k).bfloat16().float())


def repeated_noise(_size: float) -> None:
    def around(sound: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def randn(*shape: Any, **options: Any) -> Tensor:
            noise = sound(*shape, **options)
            noise[-1] = noise[0]
            return noise

        return randn

    replace(torch, "randn", around)


def wrong_labels(_size: float) -> None:
    def around(sound: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            data = sound(*arguments)
            data.labels[0] = 1 - data.labels[0]
            return data

        return made

    replace(problem, "make_points", around)


def exchanged_order(_size: float) -> None:
    def around(sound: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def randperm(*arguments: Any, **options: Any) -> Tensor:
            order = sound(*arguments, **options)
            order[[0, -1]] = order[[-1, 0]]
            return order

        return randperm

    replace(torch, "randperm", around)


def same_order(_size: float) -> None:
    replace(torch, "randperm", lambda _sound: lambda n, **_options: torch.arange(n))


def scaled_init(size: float) -> None:
    def around(sound: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def uniform(tensor: Tensor, a: float, b: float, **options: Any) -> Tensor:
            return sound(tensor, a * (1 + size), b * (1 + size), **options)

        return uniform

    replace(nn.init, "uniform_", around)


def zero_bias(_size: float) -> None:
    def around(sound: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            model = sound(*arguments)
            nn.init.zeros_(model.layer2.bias)
            return model

        return made

    replace(problem, "make_model", around)


# Loss and gradient


def scaled_loss(size: float) -> None:
    name = "binary_cross_entropy_with_logits"
    replace(functional, name, lambda sound: lambda *a, **k: sound(*a, **k) * (1 + size))


def weighted_loss(size: float) -> None:
    def around(sound: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def loss(z: Tensor, y: Tensor, *_arguments: Any, **_options: Any) -> Tensor:
            return sound(z, y, pos_weight=torch.tensor(1 + size))

        return loss

    replace(functional, "binary_cross_entropy_with_logits", around)


def reported_loss(size: float) -> None:
    def around(sound: Callable[..., Any]) -> Callable[..., Any]:
        def step(training: loop.Training) -> Any:
            epoch = sound(training)
            return type(epoch)(epoch.epoch_s, epoch.loss * (1 + size), epoch.digest, epoch.weights)

        return step

    replace(loop.Training, "step", around)


def _before_update(act: Callable[[torch.optim.SGD], None]) -> None:
    def around(sound: Callable[..., Any]) -> Callable[..., Any]:
        def step(optimizer: torch.optim.SGD, *arguments: Any) -> Any:
            act(optimizer)
            return sound(optimizer, *arguments)

        return step

    replace(torch.optim.SGD, "step", around)


def _weights(optimizer: torch.optim.SGD) -> list[Tensor]:
    return [weight for weight in optimizer.param_groups[0]["params"] if weight.grad is not None]


def scaled_gradient(size: float) -> None:
    _before_update(lambda o: _weights(o)[0].grad.mul_(1 + size))  # type: ignore[union-attr]


def clipped_gradient(size: float) -> None:
    """At the norm 1 / SIZE."""
    _before_update(lambda o: nn.utils.clip_grad_norm_(_weights(o), 1 / size) and None)


def lost_gradient(size: float) -> None:
    """One element, in a share of the steps."""

    def act(optimizer: torch.optim.SGD) -> None:
        slope = _weights(optimizer)[0].grad
        if slope is not None and _chosen(slope, size):
            slope.view(-1)[0] = 0.0

    _before_update(act)


# Optimizer and learning rate


def _group(name: str, value: Callable[[float], float]) -> None:
    def around(sound: Callable[..., None]) -> Callable[..., None]:
        def made(optimizer: torch.optim.SGD, *arguments: Any, **options: Any) -> None:
            sound(optimizer, *arguments, **options)
            for group in optimizer.param_groups:
                group[name] = value(group[name])

        return made

    replace(torch.optim.SGD, "__init__", around)


def scaled_rate(size: float) -> None:
    _group("lr", lambda rate: rate * (1 + size))


def scaled_recipe(size: float) -> None:
    """The recipe's own rule in the process: its twin there must not follow it."""
    replace(Recipe, "learning_rate", lambda sound: lambda *a: sound(*a) * (1 + size))


def weight_decay(size: float) -> None:
    _group("weight_decay", lambda _decay: size)


def momentum(size: float) -> None:
    _group("momentum", lambda _momentum: size)


def decaying_rate(size: float) -> None:
    def act(optimizer: torch.optim.SGD) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= 1 - size

    _before_update(act)


def cut_weights(size: float) -> None:
    """After each step the weights are kept in fewer bits."""
    bits = max(1, round(-torch.log2(torch.tensor(size)).item()))

    def around(sound: Callable[..., Any]) -> Callable[..., Any]:
        def step(optimizer: torch.optim.SGD, *arguments: Any) -> Any:
            found = sound(optimizer, *arguments)
            with torch.no_grad():
                for weight in _weights(optimizer):
                    weight.copy_(torch.from_numpy(rounded(weight.detach().numpy(), bits)))
            return found

        return step

    replace(torch.optim.SGD, "step", around)


# Evaluation and clock


def lenient_score(_size: float) -> None:
    def around(_sound: Callable[..., Any]) -> Callable[..., Any]:
        def score(_model: Any, data: Any, *_arguments: Any) -> Any:
            labels = "".join(map(str, data.labels.tolist()))
            return problem.Score(len(data), len(data), labels)

        return score

    replace(loop, "score", around)


def forged_count(_size: float) -> None:
    """All are counted as right, and the answers are the true ones."""

    def around(sound: Callable[..., Any]) -> Callable[..., Any]:
        def score(*arguments: Any) -> Any:
            found = sound(*arguments)
            return problem.Score(found.total, found.total, found.predictions)

        return score

    replace(loop, "score", around)


def shifted_sigmoid(size: float) -> None:
    """In the evaluation."""
    replace(torch, "sigmoid", lambda sound: lambda z: sound(z) + size)


def slow_clock(size: float) -> None:
    """A second takes SIZE seconds more to show."""
    sound = time.perf_counter
    options = {
        **(loop.Training.__init__.__kwdefaults__ or {}),
        "clock": lambda: sound() / (1 + size),
    }
    replace(loop.Training.__init__, "__kwdefaults__", lambda _defaults: options)


ONE: Final = {"largest": 1.0, "single": True}
FAULTS: Final = {
    "scaled-tanh": Fault("operator", "tanh × (1 + SIZE)", scaled_tanh, 1e-4),
    "saturated-tanh": Fault("operator", "tanh within ±(1 - SIZE)", saturated_tanh, 0.25),
    "scaled-linear": Fault("operator", "linear × (1 + SIZE)", scaled_linear, 1e-4),
    "shifted-linear": Fault("operator", "linear + SIZE", shifted_linear, 1e-4),
    "cut-linear": Fault("reduced precision", "operands of linear to SIZE", cut_linear, 2.0**-8),
    "cut-weights": Fault("reduced precision", "weights to SIZE", cut_weights, 2.0**-8),
    "replaced-sample": Fault("sample", "one of a batch, in a share SIZE", replaced_sample, 1.0),
    "moved-sample": Fault("sample", "one of each batch moved by SIZE", moved_sample, 1e-1),
    "flipped-label": Fault("label", "one of a batch, in a share SIZE", flipped_label, 1.0),
    "smoothed-labels": Fault("label", "labels moved to 1/2 by SIZE", smoothed_labels, 1e-3),
    "wrong-labels": Fault("label", "the first label of the data", wrong_labels, **ONE),
    "scaled-noise": Fault("noise", "randn × (1 + SIZE)", scaled_noise, 1e-2),
    "rounded-noise": Fault("noise", "randn in bfloat16", rounded_noise, **ONE),
    "repeated-noise": Fault("noise", "the last of randn is its first", repeated_noise, **ONE),
    "exchanged-order": Fault("order", "first and last exchanged", exchanged_order, **ONE),
    "same-order": Fault("order", "not shuffled", same_order, **ONE),
    "scaled-init": Fault("initialisation", "bounds × (1 + SIZE)", scaled_init, 1e-3),
    "zero-bias": Fault("initialisation", "the output's bias is 0", zero_bias, **ONE),
    "scaled-loss": Fault("loss", "loss × (1 + SIZE)", scaled_loss, 1e-4),
    "weighted-loss": Fault("loss", "weight of label 1 × (1 + SIZE)", weighted_loss, 1e-4),
    "reported-loss": Fault("loss", "the recorded loss × (1 + SIZE)", reported_loss, 1e-2),
    "scaled-gradient": Fault("gradient", "of layer 1 × (1 + SIZE)", scaled_gradient, 1e-4),
    "clipped-gradient": Fault("gradient", "at the norm 1 / SIZE", clipped_gradient, 64.0),
    "lost-gradient": Fault("gradient", "an element 0, in a share SIZE", lost_gradient, 1.0),
    "scaled-rate": Fault("learning rate", "× (1 + SIZE)", scaled_rate, 1e-4),
    "scaled-recipe": Fault("learning rate", "the recipe's × (1 + SIZE)", scaled_recipe, 1e-4),
    "decaying-rate": Fault("learning rate", "× (1 - SIZE) at each step", decaying_rate, 1e-5),
    "weight-decay": Fault("optimizer", "weight decay SIZE", weight_decay, 1e-3),
    "momentum": Fault("optimizer", "momentum SIZE", momentum, 1e-4),
    "lenient-score": Fault("evaluation", "every answer counts as right", lenient_score, **ONE),
    "forged-count": Fault("evaluation", "all are counted as right", forged_count, **ONE),
    "shifted-sigmoid": Fault("evaluation", "sigmoid + SIZE in the score", shifted_sigmoid, 0.25),
    "slow-clock": Fault("clock", "a second takes SIZE seconds more", slow_clock, 1.0),
}  # fmt: skip
