"""One row, repeated: a function of equal rows must give identical results at every position.

The row itself is compared with NumPy in float64, within a few units in the last place. Identical
results for equal rows are a property of a kind of device. A difference is inconclusive on a kind
for which this property has not been measured.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from xorbench.machine.probes.check import ProbeResult
from xorbench.machine.probes.exact import tensor_bits
from xorbench.machine.probes.integers import words
from xorbench.machine.universal.golden import Checked

MEASURED: Final = ("cpu",)
"""Kinds of devices on which equal rows are known to give identical results."""
ROWS: Final = 512
WIDTH: Final = 256
ULPS: Final = 64.0  # of the largest value of a row; healthy devices are within a few ulps
Doubles = npt.NDArray[np.float64]


class RowFunction(NamedTuple):
    """A function of rows [*, WIDTH], in PyTorch and in NumPy."""

    name: str
    compute: Callable[[Tensor], Tensor]
    expected: Callable[[Doubles], Doubles]


def _softmax(x: Doubles) -> Doubles:
    e = np.exp(x - x.max(-1, keepdims=True))
    shares: Doubles = e / e.sum(-1, keepdims=True)
    return shares


def _layer_norm(x: Doubles) -> Doubles:
    centred = x - x.mean(-1, keepdims=True)
    scaled: Doubles = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled


def _attention(x: Tensor) -> Tensor:
    """Self-attention of each row as a sequence of 8 tokens of width 32."""
    tokens = x.view(-1, 1, 8, WIDTH // 8)
    return functional.scaled_dot_product_attention(tokens, tokens, tokens).view(-1, WIDTH)


def _attention_expected(x: Doubles) -> Doubles:
    tokens = x.reshape(-1, 8, WIDTH // 8)
    scores = tokens @ tokens.swapaxes(1, 2) / np.sqrt(WIDTH // 8)
    return (_softmax(scores) @ tokens).reshape(-1, WIDTH)


FUNCTIONS: Final = (
    RowFunction("tanh", torch.tanh, np.tanh),
    RowFunction("exp", torch.exp, np.exp),
    RowFunction("log", lambda x: x.abs().log(), lambda x: np.log(np.abs(x))),
    RowFunction("softmax", lambda x: x.softmax(-1), _softmax),
    RowFunction("layer norm", lambda x: functional.layer_norm(x, (WIDTH,)), _layer_norm),
    RowFunction("attention", _attention, _attention_expected),
)


def check(device: torch.device) -> ProbeResult:
    """Check that equal rows give identical results close to float64."""
    result = ProbeResult("consistency", checked=len(FUNCTIONS))
    differing = result.wrong if device.type in MEASURED else result.unjudged
    for function in FUNCTIONS:
        rows, ulps = repeated(function, device)
        if ulps > ULPS:
            expected = f"within {ULPS:g} units in the last place of float64"
            result.wrong.append(Checked(function.name, expected, f"{ulps:.3g} off"))
        if rows:
            first = ", ".join(map(str, rows[:4]))
            actual = f"{len(rows)} of {ROWS} rows differ from the first: {first}"
            differing.append(Checked(function.name, "equal rows give equal rows", actual))
    return result


def repeated(function: RowFunction, device: torch.device) -> tuple[list[int], float]:
    """Compute a function of a tensor with equal rows, [ROWS, WIDTH] float32.

    Returns the rows that differ from the first, and the error of the first in ulps.
    """
    random = words(f"consistency/{function.name}", 0, WIDTH) >> np.uint64(40)
    row = (random.astype(np.float64) / 2**22 - 2 + 2**-23).astype(np.float32)  # -2 to 2, not 0
    whole = torch.from_numpy(row).to(device).expand(ROWS, WIDTH).contiguous()
    bits = tensor_bits(function.compute(whole))
    differing = np.flatnonzero((bits != bits[0]).any(-1)).tolist()
    expected = function.expected(row.astype(np.float64)[None])[0]
    first = bits[0].astype(np.uint32).view(np.float32).astype(np.float64)
    ulp = np.spacing(np.float32(np.abs(expected).max())).astype(np.float64)
    error = np.abs(first - expected).max() / ulp
    return differing, float(np.nan_to_num(error, nan=np.inf))
