"""The universal training in PyTorch on any device, S models at once.

Eager PyTorch launches one kernel per operation, so nothing is contracted or reassociated. The
models are an axis of every tensor, [..., S, m], and no operation mixes them, so a model's result
does not depend on S. The four hidden units are another axis, which saves launches. Autograd is not
used.

Every Python number in an operation is exact in float32, so its width on the device is irrelevant;
``x + y`` and ``x - y`` have a factor ``alpha`` of 1, which is exact.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xorbench.machine.universal import spec
from xorbench.machine.universal.spec import B1, B2, HIDDEN, SIZE, W2, Bits, Floats, UniversalRecipe
from xorbench.machine.universal.trained import Keep, Trained, operations

Points: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""x0, x1 and label of S models' points, [S, m] each."""


def clip(x: Tensor) -> Tensor:
    """Clip x to the range of the continued fraction."""
    return torch.clamp(x, -spec.TANH_LIMIT, spec.TANH_LIMIT)


def tanh(x: Tensor) -> Tensor:
    """Lambert's continued fraction, within 1e-4 of tanh; constant beyond 4.9."""
    x = clip(x)
    s = x * x
    p = ((s + 378.0) * s + 17325.0) * s + 135135.0
    q = ((s * 28.0 + 3150.0) * s + 62370.0) * s + 135135.0
    return (x * p) / q


def split(w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights [17, S, 1] as w1 [4, 2, S, 1], b1 [4, S, 1], w2 [4, S, 1], b2 [S, 1]."""
    w1 = w[: 2 * HIDDEN].reshape(HIDDEN, 2, -1, 1)
    return w1, w[B1[0] : W2[0]], w[W2[0] : B2], w[B2]


def hidden(w: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """The hidden activations of S models on m points, [4, S, m]."""
    w1, b1, _, _ = split(w)
    return tanh((x0 * w1[:, 0] + x1 * w1[:, 1]) + b1)


def logit(w: Tensor, h: Tensor) -> Tensor:
    """The output before the sigmoid, [S, m]; at least 0 predicts a 1."""
    product = h * split(w)[2]
    return ((product[0] + product[1]) + (product[2] + product[3])) + w[B2]


def gradients(w: Tensor, batch: Points) -> Tensor:
    """Each point's contribution to the 17 gradients, [17, S, m]."""
    x0, x1, label = batch
    h = hidden(w, x0, x1)
    y = tanh(logit(w, h) * 0.5) * 0.5 + 0.5
    d = (y - label) * float(np.float32(1 / label.shape[-1]))
    dh = (d * split(w)[2]) * (1.0 - h * h)
    inputs = torch.stack((dh * x0, dh * x1), dim=1).flatten(0, 1)
    return torch.cat((inputs, dh, d * h, d.unsqueeze(0)))


def tree_sum(g: Tensor) -> Tensor:
    """Sum over the last axis as a tree over zero-padded halves, [..., m] to [..., 1]."""
    m = g.shape[-1]
    rows: int = 1 << (m - 1).bit_length()
    if rows > m:
        g = torch.cat((g, g.new_zeros(*g.shape[:-1], rows - m)), dim=-1)
    while rows > 1:
        rows //= 2
        g = g[..., :rows] + g[..., rows:]
    return g


def step(w: Tensor, batch: Points, lr: float) -> Tensor:
    """One step of gradient descent; ``lr`` must be exact in float32."""
    return w - tree_sum(gradients(w, batch)) * lr


def count_correct(w: Tensor, test: Points) -> Tensor:
    """Number of correct points of each model, [S]; stays on the device to avoid a wait."""
    x0, x1, label = test
    correct = (logit(w, hidden(w, x0, x1)) >= 0.0) == (label == 1.0)
    return torch.count_nonzero(correct, dim=-1)


def points_on(device: str, name: str, seeds: Sequence[int], n: int, std: float) -> Points:
    """The points of S seeds, [S, n] each, as tensors on the device."""
    points = spec.ensemble_points(name, seeds, n, std)
    x0, x1, label = (torch.from_numpy(part).to(device) for part in points)
    return x0, x1, label


def batches(recipe: UniversalRecipe, points: Points, order: Tensor) -> Iterator[Points]:
    """The batches of an epoch with this order of points."""
    x0, x1, label = (part.index_select(1, order) for part in points)
    for piece in recipe.batches:
        yield x0[:, piece], x1[:, piece], label[:, piece]


def initial_on(device: str, seeds: Sequence[int]) -> Tensor:
    """The weights of S models before the first step, [17, S, 1], on the device."""
    initial = np.ascontiguousarray(spec.initial_weights(seeds).T)
    return torch.from_numpy(initial).to(device).unsqueeze(-1)


def order_on(device: str, recipe: UniversalRecipe, epoch: int) -> Tensor:
    """The order of an epoch's points, [n], on the device."""
    return torch.from_numpy(spec.epoch_order(epoch, recipe.train_size)).to(device)


def fetched(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    w: Tensor,
    correct: Tensor,
    kept: Sequence[Tensor],
    scores: Sequence[Tensor],
) -> Trained:
    """The result of a training, copied to the host: weights [17, S, 1], scores [S]."""
    return Trained(
        recipe=recipe,
        seeds=tuple(seeds),
        weights=_to_host([w], SIZE, len(seeds))[0].numpy(),
        correct=correct.cpu().long().numpy(),
        kept=_to_host(kept, SIZE, len(seeds)).numpy(),
        epoch_correct=_to_host(scores, 1, len(seeds))[:, :, 0].long().numpy(),
    )


def _to_host(tensors: Sequence[Tensor], width: int, models: int) -> Tensor:
    """The tensors of each epoch or step as one tensor on the CPU, [T, models, width]."""
    if not tensors:
        return torch.empty(0, models, width)
    return torch.stack(tuple(tensors)).reshape(len(tensors), width, models).mT.contiguous().cpu()


@torch.inference_mode()
def train(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    *,
    keep: Keep = Keep.FINAL,
    score_epochs: bool = False,
    device: str = "cpu",
) -> Trained:
    """Train one model per seed, all at once, on a device named as for ``torch.device``."""
    train_points = points_on(device, "train", seeds, recipe.train_size, recipe.std)
    test_points = points_on(device, "test", seeds, recipe.test_size, recipe.std)
    w, lr = initial_on(device, seeds), float(np.float32(recipe.lr))
    kept: list[Tensor] = []
    scores: list[Tensor] = []
    for epoch in range(recipe.epochs):
        for batch in batches(recipe, train_points, order_on(device, recipe, epoch)):
            w = step(w, batch, lr)
            if keep == Keep.STEPS:
                kept.append(w)
        if keep == Keep.EPOCHS:
            kept.append(w)
        if score_epochs:
            scores.append(count_correct(w, test_points))
    return fetched(recipe, seeds, w, count_correct(w, test_points), kept, scores)


class TorchStepper:
    """One training on a device, advanced epoch by epoch."""

    def __init__(self, recipe: UniversalRecipe, seed: int, device: str) -> None:
        self._recipe, self._done = recipe, 0
        self._points = points_on(device, "train", [seed], recipe.train_size, recipe.std)
        self._orders = [order_on(device, recipe, epoch) for epoch in range(recipe.epochs)]
        self._w = initial_on(device, [seed])

    @torch.inference_mode()
    def epoch(self) -> None:
        """Train the next epoch of the recipe. Raises `IndexError` after the last."""
        lr = float(np.float32(self._recipe.lr))
        for batch in batches(self._recipe, self._points, self._orders[self._done]):
            self._w = step(self._w, batch, lr)
        self._done += 1

    @property
    def weights(self) -> Floats:
        """The current weights, [17], on the CPU; can be set."""
        weights: Floats = self._w[:, 0, 0].cpu().numpy().copy()
        return weights

    @weights.setter
    def weights(self, values: Floats) -> None:
        self._w = torch.from_numpy(values.copy()).to(self._w.device).reshape(-1, 1, 1)


OPERATIONS: Final = operations(torch.minimum, torch.maximum, clip)
"""The operations of the probe; every backend has the same names."""


@torch.inference_mode()
def evaluate(operation: str, a: Bits, b: Bits, c: Bits, *, device: str = "cpu") -> Bits:
    """Apply one operation to float32 bit patterns, [n] each; a comparison gives 0.0 or 1.0."""
    parts = [torch.from_numpy(part.view(np.float32)).to(device) for part in (a, b, c)]
    result = OPERATIONS[operation](*parts)
    if result.dtype is torch.bool:
        result = result.float()
    bits: Bits = result.cpu().numpy().view(np.uint32)
    return bits
