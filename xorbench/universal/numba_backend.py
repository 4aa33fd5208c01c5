"""The compiled backend: sixteen models side by side in vector lanes, one block of them a task.

The models of a block visit the same rows in the same order, so every operation is one vector
operation over the lanes and nothing is ever reassociated. Each array of a block keeps the lanes
last, ``column * LANES + lane``. The tree of a batch's sum is built as the points arrive: visited
in bit-reversed order, its halves are always the two topmost entries of a short stack.

Without ``fastmath`` LLVM may neither fuse a multiply with an add nor reorder. The error model
``numpy`` only drops Python's check for a zero divisor, which would keep loops from vectorising.
Constants are ``np.float32``, because numba widens float32 with a Python float to float64.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from types import FunctionType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from xorbench.errors import BadOption
from xorbench.universal import spec
from xorbench.universal.backends import available_cores
from xorbench.universal.spec import SIZE, Bits, Floats, Integers, UniversalRecipe
from xorbench.universal.trained import Keep, Trained

LANES: Final = 16
"""Models a block: one AVX-512 register, two of AVX2, four of NEON."""
DEPTH: Final = 64
"""Entries of the stack: enough for any batch."""

F0, F1, HALF = np.float32(0), np.float32(1), np.float32(0.5)
LOW, HIGH = np.float32(-spec.TANH_LIMIT), np.float32(spec.TANH_LIMIT)
P0, P1, P2 = (np.float32(c) for c in spec.TANH_P)
Q0, Q1, Q2, Q3 = (np.float32(c) for c in spec.TANH_Q)

GAMMA = np.uint64(spec.GOLDEN_GAMMA)
MIX_1, MIX_2 = np.uint64(spec.MIX_1), np.uint64(spec.MIX_2)
U1, U16, U27, U30, U31, U32, U48, U63 = (np.uint64(n) for n in (1, 16, 27, 30, 31, 32, 48, 63))
PIECE = np.uint64(0xFFFF)
MEAN = np.int64(spec.NORMAL_MEAN)
NORMAL_UNIT = np.float32(2**-16)


OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}
Function = TypeVar("Function", bound=Callable[..., Any])
Visits: TypeAlias = npt.NDArray[np.int32]
TrainKernel: TypeAlias = Callable[..., None]


def jit(function: Function) -> Function:
    """Compile without contraction, callable from many threads at once, kept for the next run."""
    try:
        return cast(Function, numba.njit(cache=True, **OPTIONS)(function))
    except RuntimeError:  # nowhere to keep it: a read-only home is no reason not to run
        return cast(Function, numba.njit(**OPTIONS)(function))


# --------------------------------------------------------------------------------------- data


@jit
def _u64(key: np.uint64, i: np.uint64) -> np.uint64:
    z = key + (i + U1) * GAMMA
    z = (z ^ (z >> U30)) * MIX_1
    z = (z ^ (z >> U27)) * MIX_2
    return z ^ (z >> U31)


@jit
def _pieces(word: np.uint64) -> np.uint64:
    low = (word & PIECE) + ((word >> U16) & PIECE)
    return low + ((word >> U32) & PIECE) + (word >> U48)


@jit
def _coordinate(bit: np.int64, noise_key: np.uint64, j: int, std: np.float32) -> np.float32:
    first = np.uint64(3 * j)
    total = _pieces(_u64(noise_key, first)) + _pieces(_u64(noise_key, first + U1))
    total += _pieces(_u64(noise_key, first + U1 + U1))
    normal = np.float32(np.int64(total) - MEAN) * NORMAL_UNIT
    return np.float32(bit) + std * normal


@jit
def _fill(
    rows: Floats, lane: int, bits_key: np.uint64, noise_key: np.uint64, std: np.float32
) -> None:
    """Make one model's points: its lane of ``rows`` [n, 3 * LANES], x0, x1 and label."""
    for i in range(rows.shape[0]):
        a = np.int64(_u64(bits_key, np.uint64(2 * i)) >> U63)
        b = np.int64(_u64(bits_key, np.uint64(2 * i + 1)) >> U63)
        rows[i, lane] = _coordinate(a, noise_key, 2 * i, std)
        rows[i, LANES + lane] = _coordinate(b, noise_key, 2 * i + 1, std)
        rows[i, 2 * LANES + lane] = np.float32(a ^ b)


# ----------------------------------------------------------------------------------- training


@jit
def _clip(x: np.float32) -> np.float32:
    x = x if x > LOW else LOW
    return x if x < HIGH else HIGH


@jit
def _tanh(x: np.float32) -> np.float32:
    x = _clip(x)
    s = x * x
    p = ((s + P0) * s + P1) * s + P2
    q = ((s * Q0 + Q1) * s + Q2) * s + Q3
    return (x * p) / q


@jit
def _hidden(w: Floats, x0: np.float32, x1: np.float32, j: int, lane: int) -> np.float32:
    total = x0 * w[2 * j * LANES + lane] + x1 * w[(2 * j + 1) * LANES + lane]
    return _tanh(total + w[(8 + j) * LANES + lane])


@jit
def _logit(
    w: Floats, h0: np.float32, h1: np.float32, h2: np.float32, h3: np.float32, lane: int
) -> np.float32:
    left = h0 * w[12 * LANES + lane] + h1 * w[13 * LANES + lane]
    right = h2 * w[14 * LANES + lane] + h3 * w[15 * LANES + lane]
    return np.float32((left + right) + w[16 * LANES + lane])


@jit
def _hidden_gradient(w: Floats, d: np.float32, h: np.float32, j: int, lane: int) -> np.float32:
    return np.float32((d * w[(12 + j) * LANES + lane]) * (F1 - h * h))


@jit
def _leaf(
    stack: Floats, top: int, rows: Floats, point: int, w: Floats, inverse: np.float32
) -> None:
    """Write one point's 17 gradients of every lane to ``stack[top]``."""
    for lane in range(LANES):
        x0 = rows[point, lane]
        x1 = rows[point, LANES + lane]
        h0 = _hidden(w, x0, x1, 0, lane)
        h1 = _hidden(w, x0, x1, 1, lane)
        h2 = _hidden(w, x0, x1, 2, lane)
        h3 = _hidden(w, x0, x1, 3, lane)
        y = _tanh(_logit(w, h0, h1, h2, h3, lane) * HALF) * HALF + HALF
        d = (y - rows[point, 2 * LANES + lane]) * inverse
        g0 = _hidden_gradient(w, d, h0, 0, lane)
        g1 = _hidden_gradient(w, d, h1, 1, lane)
        g2 = _hidden_gradient(w, d, h2, 2, lane)
        g3 = _hidden_gradient(w, d, h3, 3, lane)
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


@jit
def _add_top(stack: Floats, top: int) -> None:
    """Add the topmost entry to the one below it: two halves become one."""
    for i in range(SIZE * LANES):
        stack[top - 1, i] += stack[top, i]


@jit
def _step(
    w: Floats, rows: Floats, visits: Visits, inverse: np.float32, lr: np.float32, stack: Floats
) -> None:
    """One step of every lane; ``visits`` are points in bit-reversed order, -1 a padding row."""
    top = -1
    for t in range(visits.shape[0]):
        top += 1
        if visits[t] >= 0:
            _leaf(stack, top, rows, visits[t], w, inverse)
        else:
            stack[top, :] = F0
        filled = t
        while filled & 1:  # as many halves are whole now as there are trailing ones
            _add_top(stack, top)
            top -= 1
            filled >>= 1
    for i in range(SIZE * LANES):
        w[i] = w[i] - stack[0, i] * lr


@jit
def _score(w: Floats, rows: Floats, correct: Integers) -> None:
    """Count each lane's right answers on the test ``rows`` into ``correct`` [LANES]."""
    correct[:] = 0
    for i in range(rows.shape[0]):
        for lane in range(LANES):
            x0 = rows[i, lane]
            x1 = rows[i, LANES + lane]
            h0 = _hidden(w, x0, x1, 0, lane)
            h1 = _hidden(w, x0, x1, 1, lane)
            h2 = _hidden(w, x0, x1, 2, lane)
            h3 = _hidden(w, x0, x1, 3, lane)
            one = _logit(w, h0, h1, h2, h3, lane) >= F0
            correct[lane] += np.int32(one == (rows[i, 2 * LANES + lane] == F1))


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

    Fills ``kept`` [epochs, 17 * LANES] and ``scores`` [epochs, LANES], either of which may be empty
    of epochs.
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
    """The points every step visits, whatever the seed.

    ``visits`` [epochs, V] are point numbers in bit-reversed order, -1 for a padding row; step s of
    an epoch visits ``edges[s]`` to ``edges[s + 1]``, [steps + 1]; ``inverses`` are 1/m, [steps].
    """

    visits: Visits
    edges: Integers
    inverses: Floats


@lru_cache(maxsize=8)
def schedule(recipe: UniversalRecipe) -> Schedule:
    """Work out the recipe's schedule once for all its seeds."""
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


def bit_reversed(m: int) -> Integers:
    """0 to P - 1 with their bits read backwards, P the least power of two not below m."""
    order = np.zeros(1, dtype=np.int64)
    while len(order) < m:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


class Block(NamedTuple):
    """Up to LANES trainings: final weights [S, 17], right answers [S], and what was kept."""

    weights: Floats
    correct: Integers
    kept: Floats
    epoch_correct: Integers


def block_rows(name: str, seeds: Sequence[int], n: int, std: float) -> Floats:
    """The points of a block's models, [n, 3 * LANES]; lanes to spare hold zeros."""
    rows = np.zeros((n, 3 * LANES), dtype=np.float32)
    streams = zip(spec.keys(f"{name}-bits", seeds), spec.keys(f"{name}-noise", seeds), strict=True)
    for lane, (bits_key, noise_key) in enumerate(streams):
        _fill(rows, lane, bits_key, noise_key, np.float32(std))
    return rows


def train_block(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    *,
    keep: Keep,
    score_epochs: bool,
    kernel: TrainKernel = _train,
) -> Block:
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
    return Block(
        weights=w.T[: len(seeds)],
        correct=correct[: len(seeds)],
        kept=kept.reshape(-1, SIZE, LANES).transpose(0, 2, 1)[:, : len(seeds)],
        epoch_correct=scores[:, : len(seeds)],
    )


def train(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    *,
    keep: Keep = Keep.FINAL,
    score_epochs: bool = False,
    threads: int | None = None,
    kernel: TrainKernel = _train,
) -> Trained:
    """Train one model a seed, in blocks of LANES over ``threads`` threads (default: every core).

    Raises:
        BadOption: the weights after every step were asked for, which this backend does not keep.
    """
    if keep == Keep.STEPS:
        raise BadOption(
            "keep: the numba backend keeps weights after epochs, not after steps",
            hint="take the numpy or torch backend for the digest after every step",
        )
    one = partial(train_block, recipe, keep=keep, score_epochs=score_epochs, kernel=kernel)
    pieces = [seeds[i : i + LANES] for i in range(0, len(seeds), LANES)]
    blocks = _in_threads(one, pieces, threads or available_cores())
    return Trained(
        recipe=recipe,
        seeds=tuple(seeds),
        weights=np.concatenate([block.weights for block in blocks]),
        correct=np.concatenate([block.correct for block in blocks]),
        kept=np.concatenate([block.kept for block in blocks], axis=1),
        epoch_correct=np.concatenate([block.epoch_correct for block in blocks], axis=1),
    )


class NumbaStepper:
    """One training that is advanced epoch by epoch, in the first lane of the kernel."""

    def __init__(self, recipe: UniversalRecipe, seed: int) -> None:
        self._recipe, self._done = recipe, 0
        self._rows = block_rows("train", [seed], recipe.train_size, recipe.std)
        self._w = np.zeros((SIZE, LANES), dtype=np.float32)
        self._w[:, 0] = spec.initial_weights([seed])[0]
        self._advance(0)  # compiles

    def epoch(self) -> None:
        """Train the next epoch of the recipe; raises `IndexError` after the last."""
        if self._done == self._recipe.epochs:
            raise IndexError(f"the recipe has {self._done} epochs")
        self._advance(1)

    def _advance(self, epochs: int) -> None:
        visits, edges, inverses = schedule(self._recipe)
        _train(
            self._w.reshape(-1), self._rows, self._rows[:0],
            visits[self._done : self._done + epochs], edges, inverses,
            np.float32(self._recipe.lr),
            np.empty((0, SIZE * LANES), dtype=np.float32), np.empty((0, LANES), dtype=np.int64),
        )  # fmt: skip
        self._done += epochs

    @property
    def weights(self) -> Floats:
        """The weights as they are, [17]; to be set, too."""
        return self._w[:, 0].copy()

    @weights.setter
    def weights(self, values: Floats) -> None:
        self._w[:, 0] = values


def _in_threads(
    one: Callable[[Sequence[int]], Block], pieces: Sequence[Sequence[int]], threads: int
) -> list[Block]:
    if threads == 1 or len(pieces) == 1:
        return [one(piece) for piece in pieces]
    pool = ThreadPoolExecutor(max_workers=min(threads, len(pieces)))
    try:
        return list(pool.map(one, pieces))
    finally:  # an interrupt must not wait for the blocks that have not begun
        pool.shutdown(cancel_futures=True)


def recompiled(**changes: Any) -> TrainKernel:
    """The whole training compiled anew with other options of ``numba.njit``, to inject faults."""
    names = [name for name, value in globals().items() if hasattr(value, "py_func")]
    namespace = dict(globals())
    for name in names:
        code = namespace[name].py_func.__code__
        plain = FunctionType(code, namespace, name)  # so that it calls its recompiled neighbours
        namespace[name] = numba.njit(**{**OPTIONS, **changes})(plain)
    return cast(TrainKernel, namespace["_train"])


def fuses(kernel: TrainKernel) -> bool:
    """Whether the machine code of a kernel that ``recompiled`` made has fused multiply-adds."""
    code = "\n".join(cast(Any, kernel).inspect_asm().values())
    return re.search(r"\bv?fn?m(add|sub|la|ls)", code) is not None  # x86 and ARM


# -------------------------------------------------------------------------------------- probe

OPERATIONS: Final = (
    "add", "sub", "mul", "div", "mul_add", "min", "max", "clip", "lt", "le", "gt", "ge", "eq", "ne",
)  # fmt: skip
"""The rows that ``_evaluate`` fills, in order."""


@jit
def _evaluate(a: Floats, b: Floats, c: Floats, out: Floats) -> None:
    """Every operation on every triple, ``out`` [14, n]; at once, as compiling costs more."""
    for i in range(a.shape[0]):
        out[0, i] = a[i] + b[i]
        out[1, i] = a[i] - b[i]
        out[2, i] = a[i] * b[i]
        out[3, i] = a[i] / b[i]
        out[4, i] = a[i] * b[i] + c[i]
        out[5, i] = np.minimum(a[i], b[i])
        out[6, i] = np.maximum(a[i], b[i])
        out[7, i] = _clip(a[i])
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
