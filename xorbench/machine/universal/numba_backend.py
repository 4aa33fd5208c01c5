"""The compiled backend: sixteen models in the lanes of a vector, one block of them per task.

The models of a block visit the same rows in the same order, so every operation is one vector
operation over the lanes and nothing is reassociated. Arrays of a block have the lanes last,
``column * LANES + lane``. The tree of a batch's sum is built in bit-reversed order of the points. A
small number of remaining models is trained one at a time at full vector width (``numba_single``).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Final, NamedTuple

import numpy as np

from xorbench.errors import BadOption
from xorbench.machine.universal import numpy_backend, spec
from xorbench.machine.universal.backends import available_cores
from xorbench.machine.universal.numba_math import (
    DEPTH,
    F0,
    F1,
    LANES,
    TrainKernel,
    Visits,
    bit_reversed,
    clip,
    fill,
    fold,
    hidden,
    jit,
    leaf,
    logit,
)
from xorbench.machine.universal.numba_single import NumbaStepper
from xorbench.machine.universal.spec import SIZE, Bits, Floats, Integers, UniversalRecipe
from xorbench.machine.universal.trained import Keep, Trained

SINGLES: Final = 8
"""Up to this many models are trained faster one at a time than in a block."""


@jit
def _step(
    w: Floats, rows: Floats, visits: Visits, inverse: np.float32, lr: np.float32, stack: Floats
) -> None:
    """One step of every lane; ``visits`` are points in bit-reversed order, -1 for padding."""
    top = -1
    for t in range(visits.shape[0]):
        top += 1
        if visits[t] >= 0:
            leaf(stack, top, rows, visits[t], w, inverse)
        else:
            stack[top, :] = F0
        top = fold(stack, top, t)
    for i in range(SIZE * LANES):
        w[i] = w[i] - stack[0, i] * lr


@jit
def _score(w: Floats, rows: Floats, correct: Integers) -> None:
    """Count each lane's correct test ``rows`` in ``correct`` [LANES]."""
    correct[:] = 0
    for i in range(rows.shape[0]):
        for lane in range(LANES):
            x0 = rows[i, lane]
            x1 = rows[i, LANES + lane]
            h0 = hidden(w, x0, x1, 0, lane)
            h1 = hidden(w, x0, x1, 1, lane)
            h2 = hidden(w, x0, x1, 2, lane)
            h3 = hidden(w, x0, x1, 3, lane)
            predicted = logit(w, h0, h1, h2, h3, lane) >= F0
            correct[lane] += np.int32(predicted == (rows[i, 2 * LANES + lane] == F1))


@jit
def _train(
    w: Floats,
    rows: Floats,
    tests: Floats,
    visits: Visits,
    edges: Integers,
    inverses: Floats,
    lr: np.float32,
    kept: Floats,
    scores: Integers,
) -> None:
    """Train one block's ``w`` [17 * LANES] in place.

    Fills ``kept`` [epochs, 17 * LANES] and ``scores`` [epochs, LANES]; each may have 0 epochs.
    """
    stack = np.empty((DEPTH, SIZE * LANES), np.float32)
    for epoch in range(visits.shape[0]):
        for s in range(inverses.shape[0]):
            batch = visits[epoch, edges[s] : edges[s + 1]]
            _step(w, rows, batch, inverses[s], lr, stack)
        if kept.shape[0]:
            kept[epoch, :] = w
        if scores.shape[0]:
            _score(w, tests, scores[epoch])


# -------------------------------------------------------------------------------------- tasks


class Schedule(NamedTuple):
    """The points of each step, independent of the seed.

    ``visits`` [epochs, V] are point numbers in bit-reversed order, -1 for padding. Step s of an
    epoch visits ``edges[s]`` to ``edges[s + 1]``, [steps + 1]; ``inverses`` are 1/m, [steps].
    """

    visits: Visits
    edges: Integers
    inverses: Floats


@lru_cache(maxsize=8)
def schedule(recipe: UniversalRecipe) -> Schedule:
    """Compute the recipe's schedule, shared by all seeds."""
    sizes = [piece.stop - piece.start for piece in recipe.batches]
    leaves = [bit_reversed(m) for m in sizes]
    taken = np.concatenate(
        [np.where(leaf < m, leaf + piece.start, -1)
         for leaf, m, piece in zip(leaves, sizes, recipe.batches, strict=True)]
    )  # fmt: skip
    orders = [spec.epoch_order(epoch, recipe.train_size) for epoch in range(recipe.epochs)]
    return Schedule(
        visits=np.array([np.where(taken < 0, -1, order[taken]) for order in orders], np.int32),
        edges=np.cumsum([0, *map(len, leaves)]),
        inverses=np.array([1 / m for m in sizes], dtype=np.float32),
    )


def block_rows(name: str, seeds: Sequence[int], n: int, std: float) -> Floats:
    """The points of a block's models, [n, 3 * LANES]; unused lanes are zero."""
    rows = np.zeros((n, 3 * LANES), dtype=np.float32)
    streams = zip(spec.keys(f"{name}-bits", seeds), spec.keys(f"{name}-noise", seeds), strict=True)
    for lane, (bits_key, noise_key) in enumerate(streams):
        fill(rows, lane, LANES, bits_key, noise_key, np.float32(std))
    return rows


def train_block(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    *,
    keep: Keep,
    score_epochs: bool,
    kernel: TrainKernel = _train,
) -> Trained:
    """Train up to LANES seeds in the calling thread."""
    rows = block_rows("train", seeds, recipe.train_size, recipe.std)
    tests = block_rows("test", seeds, recipe.test_size, recipe.std)
    w = np.zeros((SIZE, LANES), dtype=np.float32)
    w[:, : len(seeds)] = spec.initial_weights(seeds).T
    flat = w.reshape(-1)
    kept = np.empty((recipe.epochs if keep == Keep.EPOCHS else 0, SIZE * LANES), dtype=np.float32)
    scores = np.empty((recipe.epochs if score_epochs else 0, LANES), dtype=np.int64)
    kernel(flat, rows, tests, *schedule(recipe), np.float32(recipe.lr), kept, scores)
    correct = np.empty(LANES, dtype=np.int64)
    _score(flat, tests, correct)
    return Trained(
        recipe=recipe,
        seeds=tuple(seeds),
        weights=w.T[: len(seeds)],
        correct=correct[: len(seeds)],
        kept=kept.reshape(-1, SIZE, LANES).transpose(0, 2, 1)[:, : len(seeds)],
        epoch_correct=scores[:, : len(seeds)],
    )


def train_singles(
    recipe: UniversalRecipe, seeds: Sequence[int], *, keep: Keep, score_epochs: bool
) -> Trained:
    """Train a few seeds in turn in the calling thread."""
    steppers = [NumbaStepper(recipe, seed) for seed in seeds]
    advance = partial(NumbaStepper.advance, keep=keep == Keep.EPOCHS, score=score_epochs)
    kept, scores = zip(*(advance(s, recipe.epochs) for s in steppers), strict=True)
    return Trained(
        recipe=recipe,
        seeds=tuple(seeds),
        weights=np.stack([stepper.weights for stepper in steppers]),
        correct=np.array([stepper.score() for stepper in steppers]),
        kept=np.stack(kept, axis=1),
        epoch_correct=np.stack(scores, axis=1),
    )


def train(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    *,
    keep: Keep = Keep.FINAL,
    score_epochs: bool = False,
    threads: int | None = None,
    kernel: TrainKernel | None = None,
) -> Trained:
    """Train one model per seed, in blocks of LANES over ``threads`` threads (default: all cores).

    With a ``kernel`` that was compiled differently, all models are trained in blocks.

    Raises:
        BadOption: ``keep`` requests the weights after every step, which are not supported.
    """
    if keep == Keep.STEPS:
        raise BadOption(
            "keep: the numba backend keeps weights after epochs, not after steps",
            hint="use the numpy or torch backend for the digest after every step",
        )

    def train_piece(piece: Sequence[int]) -> Trained:
        if kernel is None and len(piece) <= SINGLES:
            return train_singles(recipe, piece, keep=keep, score_epochs=score_epochs)
        return train_block(
            recipe, piece, keep=keep, score_epochs=score_epochs, kernel=kernel or _train
        )

    pieces = [seeds[i : i + LANES] for i in range(0, len(seeds), LANES)]
    blocks = _in_threads(train_piece, pieces, threads or available_cores())
    return Trained(
        recipe=recipe,
        seeds=tuple(seeds),
        weights=np.concatenate([block.weights for block in blocks]),
        correct=np.concatenate([block.correct for block in blocks]),
        kept=np.concatenate([block.kept for block in blocks], axis=1),
        epoch_correct=np.concatenate([block.epoch_correct for block in blocks], axis=1),
    )


def _in_threads(
    train_piece: Callable[[Sequence[int]], Trained], pieces: Sequence[Sequence[int]], threads: int
) -> list[Trained]:
    if threads == 1 or len(pieces) == 1:
        return [train_piece(piece) for piece in pieces]
    pool = ThreadPoolExecutor(max_workers=min(threads, len(pieces)))
    try:
        return list(pool.map(train_piece, pieces))
    finally:  # an interrupt must not wait for blocks that have not started
        pool.shutdown(cancel_futures=True)


# -------------------------------------------------------------------------------------- probe

OPERATIONS: Final = tuple(numpy_backend.OPERATIONS)
"""The rows of ``_evaluate``, in order."""


@jit
def _evaluate(a: Floats, b: Floats, c: Floats, out: Floats) -> None:
    """Every operation on every triple, ``out`` [14, n]; one kernel saves compile time."""
    for i in range(a.shape[0]):
        out[0, i] = a[i] + b[i]
        out[1, i] = a[i] - b[i]
        out[2, i] = a[i] * b[i]
        out[3, i] = a[i] / b[i]
        out[4, i] = a[i] * b[i] + c[i]
        out[5, i] = np.minimum(a[i], b[i])
        out[6, i] = np.maximum(a[i], b[i])
        out[7, i] = clip(a[i])
        out[8, i] = F1 if a[i] < b[i] else F0
        out[9, i] = F1 if a[i] <= b[i] else F0
        out[10, i] = F1 if a[i] > b[i] else F0
        out[11, i] = F1 if a[i] >= b[i] else F0
        out[12, i] = F1 if a[i] == b[i] else F0
        out[13, i] = F1 if a[i] != b[i] else F0


def evaluate(operation: str, a: Bits, b: Bits, c: Bits) -> Bits:
    """Apply one operation to float32 bit patterns, [n] each; a comparison gives 0.0 or 1.0."""
    out = np.empty((len(OPERATIONS), len(a)), dtype=np.float32)
    _evaluate(a.view(np.float32), b.view(np.float32), c.view(np.float32), out)
    return np.asarray(out[OPERATIONS.index(operation)]).view(np.uint32)
