"""The universal training as one fused kernel per epoch and one program per model, for GPU sweeps.

A program holds its model's weights in registers and processes the batches of an epoch, the points
of a batch in parallel. Three measures preserve the bits: `enable_fp_fusion=False` forbids fused
multiply-add, `div_rn` rounds quotients correctly (a plain `/` on float32 may not), and sums are
explicit halvings, since `tl.sum` may add in any order.

Needs PyTorch, Triton and a device that Triton supports. `TRITON_INTERPRET=1` runs the same code
slowly on the CPU, which tests its logic but not the compiler.
"""

import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from xorbench.errors import BadOption
from xorbench.machine.universal import spec
from xorbench.machine.universal.spec import Bits, UniversalRecipe
from xorbench.machine.universal.torch_backend import fetched
from xorbench.machine.universal.trained import Keep, Trained

EXACT: Final[dict[str, Any]] = {"enable_fp_fusion": False}
LANES: Final = 512
"""Points per program of the kernels that generate and score points."""


# --------------------------------------------------------------------------------------- data


@triton.jit
def _u64(key, i):
    z = key + (i + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit
def _pieces(word):
    low = (word & 0xFFFF) + ((word >> 16) & 0xFFFF)
    return (low + ((word >> 32) & 0xFFFF) + (word >> 48)).to(tl.int64)


@triton.jit
def _coordinate(bit_key, noise_key, j, std):
    bit = (_u64(bit_key, j) >> 63).to(tl.float32)
    total = _pieces(_u64(noise_key, 3 * j)) + _pieces(_u64(noise_key, 3 * j + 1))
    total += _pieces(_u64(noise_key, 3 * j + 2))
    normal = (total - 393210).to(tl.float32) * 0.0000152587890625
    return bit, bit + std * normal


@triton.jit
def _draw(keys, x0s, x1s, labels, n, std, LANES: tl.constexpr):
    model = tl.program_id(0).to(tl.int64)
    bit_key = tl.load(keys + 2 * model).to(tl.uint64, bitcast=True)
    noise_key = tl.load(keys + 2 * model + 1).to(tl.uint64, bitcast=True)
    i = tl.program_id(1) * LANES + tl.arange(0, LANES).to(tl.int64)
    bit0, x0 = _coordinate(bit_key, noise_key, 2 * i, std)
    bit1, x1 = _coordinate(bit_key, noise_key, 2 * i + 1, std)
    offset = model * n + i
    tl.store(x0s + offset, x0, mask=i < n)
    tl.store(x1s + offset, x1, mask=i < n)
    tl.store(labels + offset, tl.where(bit0 != bit1, 1.0, 0.0), mask=i < n)


def draw(name: str, seeds: Sequence[int], n: int, std: float, device: str) -> list[Tensor]:
    """The points x0, x1 and labels of S seeds, [S, n] each, generated on the device."""
    streams = [spec.keys(f"{name}-{kind}", seeds) for kind in ("bits", "noise")]
    keys = torch.from_numpy(np.stack(streams, axis=1).view(np.int64)).to(device)
    parts = [torch.empty(len(seeds), n, device=device) for _ in range(3)]
    grid = (len(seeds), triton.cdiv(n, LANES))
    _draw[grid](keys, *parts, n, float(np.float32(std)), LANES=LANES, **EXACT)
    return parts


# ----------------------------------------------------------------------------------- training


@triton.jit
def _clip(x):
    return tl.minimum(tl.maximum(x, -4.9), 4.9)


@triton.jit
def _tanh(x):
    x = _clip(x)
    s = x * x
    p = ((s + 378.0) * s + 17325.0) * s + 135135.0
    q = ((s * 28.0 + 3150.0) * s + 62370.0) * s + 135135.0
    return tl.div_rn(x * p, q)


@triton.jit
def _forward(w, x0, x1, ROWS: tl.constexpr):
    """Hidden activations [4, ROWS] and logits [1, ROWS]."""
    h = _tanh((x0 * w[0] + x1 * w[1]) + w[2])
    pairs = tl.permute(tl.reshape(h * w[3], (2, 2, ROWS)), (0, 2, 1))
    even, odd = tl.split(pairs)
    first, second = tl.split(tl.permute(even + odd, (1, 0)))
    return h, tl.reshape(first + second, (1, ROWS)) + w[4]


@triton.jit
def _tree_sum(g, K: tl.constexpr, ROWS: tl.constexpr, LEVELS: tl.constexpr):
    """Sum [K, ROWS] over its rows to [K, 1] by adding the two halves repeatedly."""
    for level in tl.static_range(LEVELS):
        halves = tl.reshape(g, (K, 2, ROWS >> (level + 1)))
        low, high = tl.split(tl.permute(halves, (0, 2, 1)))
        g = low + high
    return g


@triton.jit
def _step(
    w, x0s, x1s, labels, order, m, inverse, lr,
    ROWS: tl.constexpr, LEVELS: tl.constexpr,
):  # fmt: skip
    """One step of gradient descent on m points in `order`."""
    lane = tl.arange(0, ROWS)[None, :]
    valid = lane < m
    i = tl.load(order + lane, mask=valid, other=0)
    x0, x1 = tl.load(x0s + i), tl.load(x1s + i)
    h, z = _forward(w, x0, x1, ROWS)
    y = _tanh(z * 0.5) * 0.5 + 0.5
    d = (y - tl.load(labels + i)) * inverse
    dh = (d * w[3]) * (1.0 - h * h)
    g0 = _tree_sum(tl.where(valid, dh * x0, 0.0), 4, ROWS, LEVELS)
    g1 = _tree_sum(tl.where(valid, dh * x1, 0.0), 4, ROWS, LEVELS)
    gb = _tree_sum(tl.where(valid, dh, 0.0), 4, ROWS, LEVELS)
    gw = _tree_sum(tl.where(valid, d * h, 0.0), 4, ROWS, LEVELS)
    gz = _tree_sum(tl.where(valid, d, 0.0), 1, ROWS, LEVELS)
    return w[0] - g0 * lr, w[1] - g1 * lr, w[2] - gb * lr, w[3] - gw * lr, w[4] - gz * lr


@triton.jit
def _read(weights, model):
    """A model's 17 numbers as w1[:, 0], w1[:, 1], b1, w2, [4, 1] each, and b2, [1, 1]."""
    j = tl.arange(0, 4)[:, None]
    pointer = weights + model * 17
    return (
        tl.load(pointer + 2 * j),
        tl.load(pointer + 2 * j + 1),
        tl.load(pointer + 8 + j),
        tl.load(pointer + 12 + j),
        tl.load(pointer + 16 + tl.arange(0, 1)[:, None]),
    )


@triton.jit
def _epoch(
    weights, x0s, x1s, labels, order, n, whole, inverse, inverse_short, lr,
    BATCH: tl.constexpr, ROWS: tl.constexpr, LEVELS: tl.constexpr,
    SHORT: tl.constexpr, SHORT_ROWS: tl.constexpr, SHORT_LEVELS: tl.constexpr,
):  # fmt: skip
    model = tl.program_id(0).to(tl.int64)
    x0s += model * n
    x1s += model * n
    labels += model * n
    w = _read(weights, model)
    for b in range(whole):
        w = _step(w, x0s, x1s, labels, order + b * BATCH, BATCH, inverse, lr, ROWS, LEVELS)
    if SHORT > 0:
        w = _step(
            w, x0s, x1s, labels, order + whole * BATCH, SHORT, inverse_short, lr,
            SHORT_ROWS, SHORT_LEVELS,
        )  # fmt: skip
    j = tl.arange(0, 4)[:, None]
    pointer = weights + model * 17
    tl.store(pointer + 2 * j, w[0])
    tl.store(pointer + 2 * j + 1, w[1])
    tl.store(pointer + 8 + j, w[2])
    tl.store(pointer + 12 + j, w[3])
    tl.store(pointer + 16 + tl.arange(0, 1)[:, None], w[4])


@triton.jit
def _score(weights, x0s, x1s, labels, correct, n, LANES: tl.constexpr):
    model = tl.program_id(0).to(tl.int64)
    w = _read(weights, model)
    hits = tl.zeros((1, LANES), tl.int32)
    for start in range(0, n, LANES):
        i = start + tl.arange(0, LANES)[None, :]
        offset = model * n + i
        x0, x1 = tl.load(x0s + offset, mask=i < n), tl.load(x1s + offset, mask=i < n)
        _, z = _forward(w, x0, x1, LANES)
        agrees = (z >= 0.0) == (tl.load(labels + offset, mask=i < n) == 1.0)
        hits += (agrees & (i < n)).to(tl.int32)
    tl.store(correct + model, tl.sum(tl.sum(hits, 1), 0))


def _levels(m: int) -> int:
    return (m - 1).bit_length()


def _launch_epoch(recipe: UniversalRecipe, w: Tensor, points: list[Tensor], order: Tensor) -> None:
    size = min(recipe.batch_size, recipe.train_size)
    whole, rest = divmod(recipe.train_size, size)
    short = 0 if recipe.drop_last else rest
    _epoch[(len(w),)](
        w,
        *points,
        order,
        recipe.train_size,
        whole,
        float(np.float32(1 / size)),
        float(np.float32(1 / max(short, 1))),
        float(np.float32(recipe.lr)),
        BATCH=size,
        ROWS=1 << _levels(size),
        LEVELS=_levels(size),
        SHORT=short,
        SHORT_ROWS=1 << _levels(max(short, 1)),
        SHORT_LEVELS=_levels(max(short, 1)),
        **EXACT,
    )


def _count_correct(w: Tensor, test: list[Tensor]) -> Tensor:
    correct = torch.empty(len(w), dtype=torch.int32, device=w.device)
    _score[(len(w),)](w, *test, correct, test[0].shape[1], LANES=LANES, **EXACT)
    return correct


def train(
    recipe: UniversalRecipe,
    seeds: Sequence[int],
    *,
    keep: Keep = Keep.FINAL,
    score_epochs: bool = False,
    device: str = "cuda",
) -> Trained:
    """Train one model per seed, one program each. Raises `BadOption` for weights of steps."""
    if keep == Keep.STEPS:
        raise BadOption("--keep: the triton backend does not keep steps", "use numpy or torch")
    points = draw("train", seeds, recipe.train_size, recipe.std, device)
    test = draw("test", seeds, recipe.test_size, recipe.std, device)
    w = torch.from_numpy(spec.initial_weights(seeds)).to(device)
    kept: list[Tensor] = []
    scores: list[Tensor] = []
    for epoch in range(recipe.epochs):
        order = spec.epoch_order(epoch, recipe.train_size).astype(np.int32)
        _launch_epoch(recipe, w, points, torch.from_numpy(order).to(device))
        if keep == Keep.EPOCHS:
            kept.append(w.T.clone())
        if score_epochs:
            scores.append(_count_correct(w, test))
    return fetched(recipe, seeds, w.T, _count_correct(w, test), kept, scores)


# ---------------------------------------------------------------------------------- the probe


@triton.jit
def _evaluate(a_at, b_at, c_at, out, n, OP: tl.constexpr, LANES: tl.constexpr):
    i = tl.program_id(0) * LANES + tl.arange(0, LANES)
    a = tl.load(a_at + i, mask=i < n)
    b = tl.load(b_at + i, mask=i < n)
    c = tl.load(c_at + i, mask=i < n)
    if OP == "add":
        r = a + b
    elif OP == "sub":
        r = a - b
    elif OP == "mul":
        r = a * b
    elif OP == "div":
        r = tl.div_rn(a, b)
    elif OP == "mul_add":
        r = a * b + c
    elif OP == "min":
        r = tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
    elif OP == "max":
        r = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    elif OP == "clip":
        r = _clip(a)
    elif OP == "lt":
        r = tl.where(a < b, 1.0, 0.0)
    elif OP == "le":
        r = tl.where(a <= b, 1.0, 0.0)
    elif OP == "gt":
        r = tl.where(a > b, 1.0, 0.0)
    elif OP == "ge":
        r = tl.where(a >= b, 1.0, 0.0)
    elif OP == "eq":
        r = tl.where(a == b, 1.0, 0.0)
    else:
        r = tl.where(a != b, 1.0, 0.0)
    tl.store(out + i, r, mask=i < n)


def evaluate(operation: str, a: Bits, b: Bits, c: Bits, *, device: str = "cuda") -> Bits:
    """Apply one operation to float32 bit patterns, [n] each; a comparison gives 0.0 or 1.0."""
    parts = [torch.from_numpy(part.view(np.float32)).to(device) for part in (a, b, c)]
    out = torch.empty_like(parts[0])
    grid = (triton.cdiv(len(a), LANES),)
    _evaluate[grid](*parts, out, len(a), OP=operation, LANES=LANES, **EXACT)
    bits: Bits = out.cpu().numpy().view(np.uint32)
    return bits


def lacks() -> str | None:
    """The reason why no kernel can run, or None."""
    if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
        return None
    return "no GPU that Triton supports"
