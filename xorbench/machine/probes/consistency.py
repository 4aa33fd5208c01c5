"""One row, repeated: whatever a function is, equal rows must come out equal, wherever they lie.

What the row itself must be is checked against NumPy in float64, within a few units in the last
place. Whether equal rows come out equal is a property of a kind of device; where it has not been
measured, a difference is inconclusive.
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
"""Kinds of devices on which equal rows were seen to come out equal."""
ROWS: Final = 512
WIDTH: Final = 256
ULPS: Final = 64.0  # of the largest value of a row; a device's own functions are within a few
Doubles = npt.NDArray[np.float64]


class RowFunction(NamedTuple):
    """A function of rows [*, WIDTH], in PyTorch and in NumPy."""

    name: str
    compute: Callable[[Tensor], Tensor]
    right: Callable[[Doubles], Doubles]


def _softmax(x: Doubles) -> Doubles:
    e = np.exp(x - x.max(-1, keepdims=True))
    shares: Doubles = e / e.sum(-1, keepdims=True)
    return shares


def _layer_norm(x: Doubles) -> Doubles:
    centred = x - x.mean(-1, keepdims=True)
    scaled: Doubles = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled


def _attention(x: Tensor) -> Tensor:
    """Each row is a sequence of 8 tokens of width 32, which attend to one another."""
    tokens = x.view(-1, 1, 8, WIDTH // 8)
    return functional.scaled_dot_product_attention(tokens, tokens, tokens).view(-1, WIDTH)


def _attention_right(x: Doubles) -> Doubles:
    tokens = x.reshape(-1, 8, WIDTH // 8)
    scores = tokens @ tokens.swapaxes(1, 2) / np.sqrt(WIDTH // 8)
    return (_softmax(scores) @ tokens).reshape(-1, WIDTH)


FUNCTIONS: Final = (
    RowFunction("tanh", torch.tanh, np.tanh),
    RowFunction("exp", torch.exp, np.exp),
    RowFunction("log", lambda x: x.abs().log(), lambda x: np.log(np.abs(x))),
    RowFunction("softmax", lambda x: x.softmax(-1), _softmax),
    RowFunction("layer norm", lambda x: functional.layer_norm(x, (WIDTH,)), _layer_norm),
    RowFunction("attention", _attention, _attention_right),
)


def check(device: torch.device) -> ProbeResult:
    """Equal rows come out equal, and near float64's."""
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
    """Compute a function of one row in every row of a tensor, [ROWS, WIDTH] float32.

    Returns the rows that differ from the first, and how many ulps that one is off.
    """
    drawn = words(f"consistency/{function.name}", 0, WIDTH) >> np.uint64(40)
    row = (drawn.astype(np.float64) / 2**22 - 2 + 2**-23).astype(np.float32)  # -2 to 2, not 0
    whole = torch.from_numpy(row).to(device).expand(ROWS, WIDTH).contiguous()
    bits = tensor_bits(function.compute(whole))
    differing = np.flatnonzero((bits != bits[0]).any(-1)).tolist()
    right = function.right(row.astype(np.float64)[None])[0]
    first = bits[0].astype(np.uint32).view(np.float32).astype(np.float64)
    ulp = np.spacing(np.float32(np.abs(right).max())).astype(np.float64)
    error = np.abs(first - right).max() / ulp
    return differing, float(np.nan_to_num(error, nan=np.inf))
