"""The oracle: a plain NumPy implementation of the universal training.

The last axis of point arrays is the point, so the code works for one model's points [m] and for S
models' points [S, m]; weights [17, S, 1] are broadcast over the points. NumPy's ufuncs round each
operation separately with every instruction set.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from xorbench.machine.universal import spec
from xorbench.machine.universal.spec import (
    B1,
    B2,
    HIDDEN,
    W1,
    W2,
    Bits,
    Floats,
    Integers,
    UniversalPoints,
    UniversalRecipe,
)
from xorbench.machine.universal.trained import Keep, Trained, operations


def clip(x: Floats) -> Floats:
    """Clip x to the range of the continued fraction."""
    return np.minimum(np.maximum(x, np.float32(-spec.TANH_LIMIT)), np.float32(spec.TANH_LIMIT))


def tanh(x: Floats) -> Floats:
    """Lambert's continued fraction, within 1e-4 of tanh; constant beyond 4.9."""
    x = clip(x)
    s = x * x
    p = ((s + np.float32(378)) * s + np.float32(17325)) * s + np.float32(135135)
    q = ((s * np.float32(28) + np.float32(3150)) * s + np.float32(62370)) * s + np.float32(135135)
    return (x * p) / q


def hidden(w: Floats, x0: Floats, x1: Floats) -> list[Floats]:
    """The four hidden activations, each of the points' shape."""
    return [tanh((x0 * w[W1[j][0]] + x1 * w[W1[j][1]]) + w[B1[j]]) for j in range(HIDDEN)]


def logit(w: Floats, h: Sequence[Floats]) -> Floats:
    """The output before the sigmoid; at least 0 predicts a 1."""
    left, right = h[0] * w[W2[0]] + h[1] * w[W2[1]], h[2] * w[W2[2]] + h[3] * w[W2[3]]
    z: Floats = (left + right) + w[B2]
    return z


def sigmoid(z: Floats) -> Floats:
    """The logistic function, computed from tanh."""
    half = np.float32(0.5)
    return tanh(z * half) * half + half


def gradients(w: Floats, batch: UniversalPoints) -> Floats:
    """Each point's contribution to the 17 gradients, [17, S, m]."""
    x0, x1, label = batch
    h = hidden(w, x0, x1)
    y = sigmoid(logit(w, h))
    d = (y - label) * np.float32(1 / label.shape[-1])
    dh = [(d * w[W2[j]]) * (np.float32(1) - h[j] * h[j]) for j in range(HIDDEN)]
    inputs = [dh[j] * x for j in range(HIDDEN) for x in (x0, x1)]
    return np.stack([*inputs, *dh, *(d * h[j] for j in range(HIDDEN)), d])


def tree_sum(g: Floats) -> Floats:
    """Sum over the last axis as a tree over zero-padded halves, [..., m] to [..., 1]."""
    m = g.shape[-1]
    rows = 1 << (m - 1).bit_length()
    g = np.concatenate([g, np.zeros((*g.shape[:-1], rows - m), dtype=np.float32)], axis=-1)
    while rows > 1:
        rows //= 2
        g = g[..., :rows] + g[..., rows:]
    return g


def step(w: Floats, batch: UniversalPoints, lr: np.float32) -> Floats:
    """One step of gradient descent; every gradient uses the weights before the step."""
    return w - tree_sum(gradients(w, batch)) * lr


def count_correct(w: Floats, test: UniversalPoints) -> Integers:
    """Number of correct points of each model, [S]."""
    z = logit(w, hidden(w, test.x0, test.x1))
    correct = (z >= np.float32(0)) == (test.label == np.float32(1))
    return np.asarray(np.count_nonzero(correct, axis=-1), dtype=np.int64)


def train(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    *,
    keep: Keep = Keep.FINAL,
    score_epochs: bool = False,
) -> Trained:
    """Train one model per seed, all at once."""
    train_points = spec.ensemble_points("train", seeds, recipe.train_size, recipe.std)
    test_points = spec.ensemble_points("test", seeds, recipe.test_size, recipe.std)
    w = spec.initial_weights(seeds).T[:, :, None]
    kept: list[Floats] = []
    scores: list[Integers] = []
    for epoch in range(recipe.epochs):
        order = spec.epoch_order(epoch, recipe.train_size)
        for piece in recipe.batches:
            batch = UniversalPoints(*(part[..., order[piece]] for part in train_points))
            w = step(w, batch, np.float32(recipe.lr))
            if keep == Keep.STEPS:
                kept.append(w[:, :, 0].T)
        if keep == Keep.EPOCHS:
            kept.append(w[:, :, 0].T)
        if score_epochs:
            scores.append(count_correct(w, test_points))
    return Trained(
        recipe=recipe,
        seeds=tuple(seeds),
        weights=np.ascontiguousarray(w[:, :, 0].T),
        correct=count_correct(w, test_points),
        kept=np.array(kept, dtype=np.float32).reshape(-1, len(seeds), spec.SIZE),
        epoch_correct=np.array(scores, dtype=np.int64).reshape(-1, len(seeds)),
    )


OPERATIONS: Final = operations(np.minimum, np.maximum, clip)
"""The operations of the probe; every backend has the same names."""


def evaluate(operation: str, a: Bits, b: Bits, c: Bits) -> Bits:
    """Apply one operation to float32 bit patterns, [n] each; a comparison gives 0.0 or 1.0."""
    with np.errstate(all="ignore"):  # cases overflow, underflow and divide by zero
        result = OPERATIONS[operation](*(part.view(np.float32) for part in (a, b, c)))
    bits: Bits = result.astype(np.float32).view(np.uint32)
    return bits
