"""Shared parts of the compiled kernels: compilation, points, and arithmetic of the lanes.

A lane is a model and its point, or a point of a single model. Arrays have the lanes last, ``column
* LANES + lane``: weights [17 * LANES], points [n, 3 * LANES] with x0, x1 and label.

Without ``fastmath`` LLVM may neither fuse a multiply with an add nor reorder. The error model
``numpy`` only removes Python's check for a zero divisor, which would prevent vectorization.
Constants are ``np.float32``, because numba widens float32 with a Python float to float64.

numba caches compiled kernels by the time stamp of their file. After a change of this file, touch
the files of the kernels, or their cached code keeps the old arithmetic. An installation, and the
folder of the processes, are always new.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from xorbench.machine.universal import spec
from xorbench.machine.universal.spec import SIZE, Floats, Integers

LANES: Final = 16
"""Models or points per vector: one AVX-512 register, two of AVX2, four of NEON."""
DEPTH: Final = 64
"""Entries of a tree's stack, enough for any batch."""

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
    """Compile without contraction, callable from many threads, cached for the next run."""
    try:
        return cast(Function, numba.njit(cache=True, **OPTIONS)(function))
    except RuntimeError:  # no writable cache folder, such as a read-only home
        return cast(Function, numba.njit(**OPTIONS)(function))


# --------------------------------------------------------------------------------------- data


@jit
def _u64(key: np.uint64, i: np.uint64) -> np.uint64:
    z: np.uint64 = key + (i + U1) * GAMMA
    z = (z ^ (z >> U30)) * MIX_1
    z = (z ^ (z >> U27)) * MIX_2
    z ^= z >> U31
    return z


@jit
def _pieces(word: np.uint64) -> np.uint64:
    total: np.uint64 = (word & PIECE) + ((word >> U16) & PIECE)
    total += ((word >> U32) & PIECE) + (word >> U48)
    return total


@jit
def _coordinate(bit: np.int64, noise_key: np.uint64, j: int, std: np.float32) -> np.float32:
    first = np.uint64(3 * j)
    total = _pieces(_u64(noise_key, first)) + _pieces(_u64(noise_key, first + U1))
    total += _pieces(_u64(noise_key, first + U1 + U1))
    normal = np.float32(np.int64(total) - MEAN) * NORMAL_UNIT
    return np.float32(bit) + std * normal


@jit
def fill(
    rows: Floats, column: int, step: int, bits_key: np.uint64, noise_key: np.uint64, std: np.float32
) -> None:
    """Write one model's points, one per row: x0, x1 and label, ``step`` apart from ``column``."""
    for i in range(rows.shape[0]):
        a = np.int64(_u64(bits_key, np.uint64(2 * i)) >> U63)
        b = np.int64(_u64(bits_key, np.uint64(2 * i + 1)) >> U63)
        rows[i, column] = _coordinate(a, noise_key, 2 * i, std)
        rows[i, column + step] = _coordinate(b, noise_key, 2 * i + 1, std)
        rows[i, column + 2 * step] = np.float32(a ^ b)


# ---------------------------------------------------------------------------------- the lanes


@jit
def clip(x: np.float32) -> np.float32:
    """Clip to the limits of tanh."""
    x = x if x > LOW else LOW
    return x if x < HIGH else HIGH


@jit
def tanh(x: np.float32) -> np.float32:
    """Lambert's continued fraction."""
    x = clip(x)
    s = x * x
    p = ((s + P0) * s + P1) * s + P2
    q = ((s * Q0 + Q1) * s + Q2) * s + Q3
    return (x * p) / q


@jit
def hidden(w: Floats, x0: np.float32, x1: np.float32, j: int, lane: int) -> np.float32:
    """Hidden unit j of a lane; ``w`` [17 * LANES]."""
    total = x0 * w[2 * j * LANES + lane] + x1 * w[(2 * j + 1) * LANES + lane]
    return tanh(total + w[(8 + j) * LANES + lane])


@jit
def logit(
    w: Floats, h0: np.float32, h1: np.float32, h2: np.float32, h3: np.float32, lane: int
) -> np.float32:
    """The output of a lane before its sigmoid."""
    left = h0 * w[12 * LANES + lane] + h1 * w[13 * LANES + lane]
    right = h2 * w[14 * LANES + lane] + h3 * w[15 * LANES + lane]
    return np.float32((left + right) + w[16 * LANES + lane])


@jit
def _hidden_gradient(w: Floats, d: np.float32, h: np.float32, j: int, lane: int) -> np.float32:
    return np.float32((d * w[(12 + j) * LANES + lane]) * (F1 - h * h))


@jit
def leaf(stack: Floats, top: int, rows: Floats, point: int, w: Floats, inverse: np.float32) -> None:
    """Write the 17 gradients of every lane's point, in ``rows[point]``, to ``stack[top]``."""
    for lane in range(LANES):
        x0 = rows[point, lane]
        x1 = rows[point, LANES + lane]
        h0 = hidden(w, x0, x1, 0, lane)
        h1 = hidden(w, x0, x1, 1, lane)
        h2 = hidden(w, x0, x1, 2, lane)
        h3 = hidden(w, x0, x1, 3, lane)
        y = tanh(logit(w, h0, h1, h2, h3, lane) * HALF) * HALF + HALF
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


# -------------------------------------------------------------------------------------- trees


@jit
def fold(stack: Floats, top: int, taken: int) -> int:
    """Add the pairs of complete halves after entry number ``taken``; return the new top."""
    while taken & 1:  # the number of trailing ones is the number of complete halves
        for i in range(SIZE * LANES):
            stack[top - 1, i] += stack[top, i]
        top -= 1
        taken >>= 1
    return top


def bit_reversed(m: int) -> Integers:
    """0 to P - 1 with reversed bits, where P is the smallest power of two that is at least m.

    In this order, the halves of a tree are always the two topmost entries of a short stack.
    """
    order = np.zeros(1, dtype=np.int64)
    while len(order) < m:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order
