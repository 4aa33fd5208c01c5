"""The compiled kernel of one model: sixteen points of a batch side by side in vector lanes.

A batch is cut into chunks of LANES points. The tree of a sum adds chunk to chunk, lane by lane, as
long as its halves are whole chunks; what is left is one chunk, whose lanes are halved four times.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from xorbench.universal import spec
from xorbench.universal.numba_math import (
    DEPTH,
    F0,
    F1,
    LANES,
    TrainKernel,
    Visits,
    add_top,
    bit_reversed,
    fill,
    hidden,
    hidden_gradient,
    jit,
    logit,
    logit_gradient,
)
from xorbench.universal.spec import SIZE, Floats, Integers, UniversalRecipe


@jit
def _leaf(
    stack: Floats, top: int, rows: Floats, first: int, count: int, w: Floats, inverse: np.float32
) -> None:
    """Write 17 gradients of the chunk at ``first`` to ``stack[top]``; zeros past ``count``."""
    w00, w01, w10, w11, w20, w21, w30, w31 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    b0, b1, b2, b3, v0, v1, v2, v3 = w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15]
    bias = w[16]
    for lane in range(LANES):
        x0 = rows[0, first + lane]
        x1 = rows[1, first + lane]
        h0 = hidden(x0, x1, w00, w01, b0)
        h1 = hidden(x0, x1, w10, w11, b1)
        h2 = hidden(x0, x1, w20, w21, b2)
        h3 = hidden(x0, x1, w30, w31, b3)
        z = logit(h0, h1, h2, h3, v0, v1, v2, v3, bias)
        d = logit_gradient(z, rows[2, first + lane], inverse)
        g0 = hidden_gradient(d, v0, h0)
        g1 = hidden_gradient(d, v1, h1)
        g2 = hidden_gradient(d, v2, h2)
        g3 = hidden_gradient(d, v3, h3)
        stack[top, lane] = g0 * x0
        stack[top, LANES + lane] = g0 * x1
        stack[top, 2 * LANES + lane] = g1 * x0
        stack[top, 3 * LANES + lane] = g1 * x1
        stack[top, 4 * LANES + lane] = g2 * x0
        stack[top, 5 * LANES + lane] = g2 * x1
        stack[top, 6 * LANES + lane] = g3 * x0
        stack[top, 7 * LANES + lane] = g3 * x1
        stack[top, 8 * LANES + lane] = g0
        stack[top, 9 * LANES + lane] = g1
        stack[top, 10 * LANES + lane] = g2
        stack[top, 11 * LANES + lane] = g3
        stack[top, 12 * LANES + lane] = d * h0
        stack[top, 13 * LANES + lane] = d * h1
        stack[top, 14 * LANES + lane] = d * h2
        stack[top, 15 * LANES + lane] = d * h3
        stack[top, 16 * LANES + lane] = d
    if count < LANES:
        for column in range(SIZE):
            for lane in range(count, LANES):
                stack[top, column * LANES + lane] = F0


@jit
def _halve(stack: Floats, half: int) -> None:
    """Add the upper ``half`` lanes of the last chunk to the lower ones."""
    for column in range(SIZE):
        for lane in range(half):
            stack[0, column * LANES + lane] += stack[0, column * LANES + half + lane]


@jit
def _step(
    w: Floats, rows: Floats, first: int, m: int, chunks: Visits, inverse: np.float32,
    lr: np.float32, stack: Floats,
) -> None:  # fmt: skip
    """One step on the m points at ``first``; ``chunks`` are in bit-reversed order."""
    top = -1
    for t in range(chunks.shape[0]):
        top += 1
        begin = chunks[t] * LANES
        if begin < m:
            _leaf(stack, top, rows, first + begin, min(m - begin, LANES), w, inverse)
        else:
            stack[top, :] = F0
        filled = t
        while filled & 1:  # as many halves are whole now as there are trailing ones
            add_top(stack, top)
            top -= 1
            filled >>= 1
    if m > 8:
        _halve(stack, 8)
    if m > 4:
        _halve(stack, 4)
    if m > 2:
        _halve(stack, 2)
    if m > 1:
        _halve(stack, 1)
    for column in range(SIZE):
        w[column] = w[column] - stack[0, column * LANES] * lr


@jit
def _score(w: Floats, points: Floats) -> int:
    """Right answers on the test ``points`` [n, 3]."""
    correct = 0
    for i in range(points.shape[0]):
        x0, x1 = points[i, 0], points[i, 1]
        h0 = hidden(x0, x1, w[0], w[1], w[8])
        h1 = hidden(x0, x1, w[2], w[3], w[9])
        h2 = hidden(x0, x1, w[4], w[5], w[10])
        h3 = hidden(x0, x1, w[6], w[7], w[11])
        one = logit(h0, h1, h2, h3, w[12], w[13], w[14], w[15], w[16]) >= F0
        correct += one == (points[i, 2] == F1)
    return correct


@jit
def _train(
    w: Floats,
    points: Floats,
    tests: Floats,
    visits: Visits,
    edges: Integers,
    chunks: Visits,
    chunk_edges: Integers,
    inverses: Floats,
    lr: np.float32,
    kept: Floats,
    scores: Integers,
) -> None:
    """Train ``w`` [17] in place on ``points`` [n, 3].

    Fills ``kept`` [epochs, 17] and ``scores`` [epochs], either of which may be empty.
    """
    stack = np.empty((DEPTH, SIZE * LANES), np.float32)
    rows = np.zeros((3, visits.shape[1] + LANES), np.float32)  # the last chunk may read beyond
    for epoch in range(visits.shape[0]):
        for i in range(visits.shape[1]):
            for field in range(3):
                rows[field, i] = points[visits[epoch, i], field]
        for s in range(inverses.shape[0]):
            m = edges[s + 1] - edges[s]
            order = chunks[chunk_edges[s] : chunk_edges[s + 1]]
            _step(w, rows, edges[s], m, order, inverses[s], lr, stack)
        if kept.shape[0]:
            kept[epoch, :] = w
        if scores.shape[0]:
            scores[epoch] = _score(w, tests)


class SingleSchedule(NamedTuple):
    """The points every step visits, whatever the seed.

    ``visits`` [epochs, n] are point numbers; step s of an epoch visits ``edges[s]`` to
    ``edges[s + 1]``, [steps + 1], in the chunks ``chunk_edges[s]`` to ``chunk_edges[s + 1]`` of
    ``chunks``; ``inverses`` are 1/m, [steps].
    """

    visits: Visits
    edges: Integers
    chunks: Visits
    chunk_edges: Integers
    inverses: Floats


@lru_cache(maxsize=8)
def schedule(recipe: UniversalRecipe) -> SingleSchedule:
    """Work out the recipe's schedule once for all its seeds."""
    batches = recipe.batches
    sizes = [piece.stop - piece.start for piece in batches]
    orders = [spec.epoch_order(epoch, recipe.train_size) for epoch in range(recipe.epochs)]
    chunks = [bit_reversed(-(-m // LANES)) for m in sizes]
    return SingleSchedule(
        visits=np.array([order[: batches[-1].stop] for order in orders], np.int32),
        edges=np.cumsum([0, *sizes]),
        chunks=np.concatenate(chunks).astype(np.int32),
        chunk_edges=np.cumsum([0, *map(len, chunks)]),
        inverses=np.array([1 / m for m in sizes], dtype=np.float32),
    )


def points_of(name: str, seed: int, n: int, std: float) -> Floats:
    """One model's points, [n, 3]: x0, x1 and label."""
    rows = np.empty((n, 3), dtype=np.float32)
    bits_key, noise_key = (spec.key(f"{name}-{what}", seed) for what in ("bits", "noise"))
    fill(rows, 0, 1, np.uint64(bits_key), np.uint64(noise_key), np.float32(std))
    return rows


class NumbaStepper:
    """One training that is advanced epoch by epoch."""

    def __init__(self, recipe: UniversalRecipe, seed: int, kernel: TrainKernel = _train) -> None:
        self._recipe, self._kernel, self._done = recipe, kernel, 0
        self._points = points_of("train", seed, recipe.train_size, recipe.std)
        self._tests = points_of("test", seed, recipe.test_size, recipe.std)
        self._w = spec.initial_weights([seed])[0].astype(np.float32)
        self.advance(0)  # compiles

    def epoch(self) -> None:
        """Train the next epoch of the recipe; raises `IndexError` after the last."""
        if self._done == self._recipe.epochs:
            raise IndexError(f"the recipe has {self._done} epochs")
        self.advance(1)

    def advance(self, epochs: int, *, keep: bool = False, score: bool = False) -> "Advanced":
        """Train so many epochs; the weights [epochs, 17] and right answers [epochs], if wanted."""
        visits, *rest = schedule(self._recipe)
        kept = np.empty((epochs if keep else 0, SIZE), dtype=np.float32)
        scores = np.empty(epochs if score else 0, dtype=np.int64)
        some = visits[self._done : self._done + epochs]
        self._kernel(
            self._w, self._points, self._tests, some, *rest, np.float32(self._recipe.lr), kept,
            scores,
        )  # fmt: skip
        self._done += epochs
        return Advanced(kept, scores)

    def score(self) -> int:
        """Right answers on the test points, of the weights as they are."""
        return _score(self._w, self._tests)

    @property
    def weights(self) -> Floats:
        """The weights as they are, [17]; to be set, too."""
        return self._w.copy()

    @weights.setter
    def weights(self, values: Floats) -> None:
        self._w[:] = values


class Advanced(NamedTuple):
    """Weights and right answers after each of some epochs; either may be empty."""

    kept: Floats
    correct: Integers
