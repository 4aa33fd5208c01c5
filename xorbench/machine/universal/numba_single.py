"""The compiled kernel of a single model: sixteen points of a batch in the lanes of a vector.

A batch is divided into chunks of LANES points, and every lane holds the weights. The tree of a sum
adds chunks lane by lane while its halves are complete chunks. The lanes of the remaining chunk are
halved four times.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from xorbench.machine.universal import spec
from xorbench.machine.universal.numba_math import (
    DEPTH,
    F0,
    F1,
    LANES,
    TrainKernel,
    Visits,
    bit_reversed,
    fill,
    fold,
    hidden,
    jit,
    leaf,
    logit,
)
from xorbench.machine.universal.spec import SIZE, Floats, Integers, UniversalRecipe


@jit
def _pad(stack: Floats, top: int, count: int) -> None:
    """Zero the lanes of an entry from ``count`` on, which pad the batch to a power of two."""
    for column in range(SIZE):
        for lane in range(max(count, 0), LANES):
            stack[top, column * LANES + lane] = F0


@jit
def _halve(stack: Floats, half: int) -> None:
    """Add the upper ``half`` lanes of the last chunk to the lower ones."""
    for column in range(SIZE):
        for lane in range(half):
            stack[0, column * LANES + lane] += stack[0, column * LANES + half + lane]


@jit
def _sum_lanes(stack: Floats, m: int) -> None:
    """Sum the lanes of the last chunk, which has m points or LANES."""
    if m > 8:
        _halve(stack, 8)
    if m > 4:
        _halve(stack, 4)
    if m > 2:
        _halve(stack, 2)
    if m > 1:
        _halve(stack, 1)


@jit
def _step(
    w: Floats, rows: Floats, first: int, m: int, order: Integers, inverse: np.float32,
    lr: np.float32, stack: Floats,
) -> None:  # fmt: skip
    """One step on m points in chunks from ``first``, in the bit-reversed ``order``."""
    top = -1
    for t in range(order.shape[0]):
        top += 1
        count = min(m - order[t] * LANES, LANES)
        if count > 0:
            leaf(stack, top, rows, first + order[t], w, inverse)
        if count < LANES:
            _pad(stack, top, count)
        top = fold(stack, top, t)
    _sum_lanes(stack, m)
    for column in range(SIZE):
        updated = w[column * LANES] - stack[0, column * LANES] * lr
        for lane in range(LANES):
            w[column * LANES + lane] = updated


@jit
def _score(w: Floats, points: Floats) -> int:
    """Number of correct test ``points`` [n, 3]."""
    correct = 0
    for i in range(points.shape[0]):
        x0, x1 = points[i, 0], points[i, 1]
        h0 = hidden(w, x0, x1, 0, 0)
        h1 = hidden(w, x0, x1, 1, 0)
        h2 = hidden(w, x0, x1, 2, 0)
        h3 = hidden(w, x0, x1, 3, 0)
        predicted = logit(w, h0, h1, h2, h3, 0) >= F0
        correct += predicted == (points[i, 2] == F1)
    return correct


@jit
def _train(
    w: Floats,
    points: Floats,
    tests: Floats,
    visits: Visits,
    taken: Visits,
    sizes: Integers,
    edges: Integers,
    orders: Integers,
    order_edges: Integers,
    inverses: Floats,
    lr: np.float32,
    kept: Floats,
    scores: Integers,
) -> None:
    """Train ``w`` [17 * LANES], equal in all lanes, in place on ``points`` [n, 3].

    Fills ``kept`` [epochs, 17] and ``scores`` [epochs]; each may be empty.
    """
    stack = np.empty((DEPTH, SIZE * LANES), np.float32)
    rows = np.empty((taken.shape[0], 3 * LANES), np.float32)
    for epoch in range(visits.shape[0]):
        for chunk in range(taken.shape[0]):
            for lane in range(LANES):
                point = visits[epoch, taken[chunk, lane]]
                for field in range(3):
                    rows[chunk, field * LANES + lane] = points[point, field]
        for s in range(sizes.shape[0]):
            order = orders[order_edges[s] : order_edges[s + 1]]
            _step(w, rows, edges[s], sizes[s], order, inverses[s], lr, stack)
        if kept.shape[0]:
            for column in range(SIZE):
                kept[epoch, column] = w[column * LANES]
        if scores.shape[0]:
            scores[epoch] = _score(w, tests)


class SingleSchedule(NamedTuple):
    """The points of each step, independent of the seed.

    ``visits`` [epochs, n] are point numbers. ``taken`` [chunks, LANES] are positions in an epoch;
    each batch starts a new chunk, and padding positions are arbitrary. Step s has ``sizes[s]``
    points in chunks from ``edges[s]`` on. Their bit-reversed order is ``orders`` from
    ``order_edges[s]`` to ``order_edges[s + 1]``; ``inverses`` are 1/m.
    """

    visits: Visits
    taken: Visits
    sizes: Integers
    edges: Integers
    orders: Integers
    order_edges: Integers
    inverses: Floats


@lru_cache(maxsize=8)
def schedule(recipe: UniversalRecipe) -> SingleSchedule:
    """Compute the recipe's schedule, shared by all seeds."""
    pieces = recipe.batches
    sizes = [piece.stop - piece.start for piece in pieces]
    chunks = [-(-m // LANES) for m in sizes]
    taken = np.concatenate(
        [np.resize(np.arange(piece.start, piece.stop), count * LANES)
         for piece, count in zip(pieces, chunks, strict=True)]
    ).reshape(-1, LANES)  # fmt: skip
    epochs = [spec.epoch_order(epoch, recipe.train_size) for epoch in range(recipe.epochs)]
    orders = [bit_reversed(count) for count in chunks]
    return SingleSchedule(
        visits=np.array(epochs, np.int32),
        taken=taken.astype(np.int32),
        sizes=np.array(sizes),
        edges=np.cumsum([0, *chunks[:-1]]),
        orders=np.concatenate(orders),
        order_edges=np.cumsum([0, *map(len, orders)]),
        inverses=np.array([1 / m for m in sizes], dtype=np.float32),
    )


def points_of(name: str, seed: int, n: int, std: float) -> Floats:
    """One model's points, [n, 3]: x0, x1 and label."""
    rows = np.empty((n, 3), dtype=np.float32)
    bits_key, noise_key = (spec.key(f"{name}-{kind}", seed) for kind in ("bits", "noise"))
    fill(rows, 0, 1, np.uint64(bits_key), np.uint64(noise_key), np.float32(std))
    return rows


class NumbaStepper:
    """One training that is advanced epoch by epoch."""

    def __init__(self, recipe: UniversalRecipe, seed: int, kernel: TrainKernel = _train) -> None:
        self._recipe, self._kernel, self._seed = recipe, kernel, seed
        self._points = points_of("train", seed, recipe.train_size, recipe.std)
        self._tests = points_of("test", seed, recipe.test_size, recipe.std)
        self.restart()
        self.advance(0)  # compiles

    def restart(self) -> None:
        """Reset to the initial weights."""
        self._done = 0
        self._w = np.repeat(spec.initial_weights([self._seed])[0], LANES)

    def epoch(self) -> None:
        """Train the next epoch of the recipe. Raises `IndexError` after the last."""
        if self._done == self._recipe.epochs:
            raise IndexError(f"the recipe has {self._done} epochs")
        self.advance(1)

    def advance(
        self, epochs: int, *, keep: bool = False, score: bool = False
    ) -> tuple[Floats, Integers]:
        """Train epochs; return the weights [epochs, 17] and scores [epochs] if requested."""
        visits, *rest = schedule(self._recipe)
        kept = np.empty((epochs if keep else 0, SIZE), dtype=np.float32)
        scores = np.empty(epochs if score else 0, dtype=np.int64)
        visits = visits[self._done : self._done + epochs]
        lr = np.float32(self._recipe.lr)
        self._kernel(self._w, self._points, self._tests, visits, *rest, lr, kept, scores)
        self._done += epochs
        return kept, scores

    def score(self) -> int:
        """Number of correct test points with the current weights."""
        return int(_score(self._w, self._tests))

    @property
    def weights(self) -> Floats:
        """The current weights, [17]; can be set."""
        return np.array(self._w[::LANES])

    @weights.setter
    def weights(self, values: Floats) -> None:
        self._w[:] = np.repeat(values, LANES)
