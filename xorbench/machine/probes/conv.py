"""Convolutions of integers in one to three dimensions, forward and both gradients."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xorbench.machine.probes.exact import Arrays, ExactCase, gradient, tensor, whole_bits
from xorbench.machine.probes.integers import Whole, entries, largest_entry
from xorbench.machine.probes.matmul import FULL, SUMMED
from xorbench.machine.probes.rounding import Pattern

CONVOLVE: Final = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@dataclass(frozen=True)
class Convolve:
    """The sizes of a convolution: batch, channels in and out, image, kernel, and its steps."""

    batch: int
    channels: tuple[int, int]
    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def dimensions(self) -> int:
        """The number of spatial dimensions, 1 to 3."""
        return len(self.image)

    @property
    def outputs(self) -> tuple[int, ...]:
        """The sizes of the output image."""
        return tuple(
            (size + 2 * self.padding - self.dilation * (kernel - 1) - 1) // self.stride + 1
            for size, kernel in zip(self.image, self.kernel, strict=True)
        )

    @property
    def transformed(self) -> bool:
        """Whether a library may use Winograd's or Fourier's transform, which rounds."""
        return self.stride == 1 and max(self.kernel) > 1

    def __str__(self) -> str:
        image, kernel = ("×".join(map(str, size)) for size in (self.image, self.kernel))
        parts = [f"conv{self.dimensions}d {image} by {kernel}"]
        settings = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        parts += [f"{name} {value}" for name, value in settings.items() if value > 1]
        parts += [f"padding {self.padding}"] if self.padding else []
        return " ".join(parts)


CONVOLVES: Final = (
    Convolve(2, (3, 5), (31,), (7,), padding=3),
    Convolve(2, (4, 6), (9, 7), (3, 3), padding=1),
    Convolve(2, (4, 6), (9, 9), (3, 3), stride=2, padding=1, groups=2),
    Convolve(1, (3, 4), (11, 11), (3, 3), stride=2, dilation=2),
    Convolve(2, (16, 16), (8, 8), (1, 1)),
    Convolve(1, (2, 3), (5, 6, 7), (3, 2, 3), stride=2, padding=1),
)
PARTS: Final = ("forward", "gradient of input", "gradient of weight")


def cases() -> Iterator[ExactCase]:
    """Yield every convolution."""
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        for convolve, part in product(CONVOLVES, PARTS):
            yield _case(dtype, convolve, part)


def _case(dtype: str, convolve: Convolve, part: str) -> ExactCase:
    name = f"{dtype} {convolve}, {part}"
    return ExactCase(
        name,
        dtype,
        partial(_operands, name, dtype, convolve, part),
        partial(_expected, dtype, convolve, part),
        partial(_compute, dtype, convolve, part),
    )


def _operands(name: str, dtype: str, convolve: Convolve, part: str) -> Arrays:
    """Input, weight and output gradient for which every partial sum is exact."""
    cells = int(np.prod(convolve.kernel))
    terms = {
        "forward": convolve.channels[0] // convolve.groups * cells,
        "gradient of input": convolve.channels[1] // convolve.groups * cells,
        "gradient of weight": convolve.batch * int(np.prod(convolve.outputs)),
    }[part]
    most = largest_entry(terms, 2 ** SUMMED[dtype], min(FULL[dtype]))
    grouped = convolve.channels[0] // convolve.groups
    shapes = {
        "x": (convolve.batch, convolve.channels[0], *convolve.image),
        "w": (convolve.channels[1], grouped, *convolve.kernel),
        "g": (convolve.batch, convolve.channels[1], *convolve.outputs),
    }
    return {key: entries(f"{name}/{key}", 0, shape, most) for key, shape in shapes.items()}


def _compute(
    dtype: str, convolve: Convolve, part: str, arrays: Arrays, device: torch.device
) -> Tensor:
    x, w, g = (tensor(arrays[name], dtype, device) for name in "xwg")
    x.requires_grad_(), w.requires_grad_()
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled and not convolve.transformed,
        deterministic=True,
        allow_tf32=False,
    ):
        result = CONVOLVE[convolve.dimensions](
            x, w, None, convolve.stride, convolve.padding, convolve.dilation, convolve.groups
        )
        if part != "forward":
            result = gradient(result, x if part == "gradient of input" else w, g)
    return result.detach() + 0.0


def _expected(dtype: str, convolve: Convolve, part: str, arrays: Arrays) -> Pattern:
    x, w, g = arrays["x"], arrays["w"], arrays["g"]
    edge = convolve.padding
    padded = np.pad(x, [(0, 0), (0, 0), *[(edge, edge)] * convolve.dimensions])
    out, grad_x, grad_w = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(w)
    for group in range(convolve.groups):
        ins, outs = (
            slice(group * size // convolve.groups, (group + 1) * size // convolve.groups)
            for size in convolve.channels
        )
        for place in product(*map(range, convolve.kernel)):
            window: Any = (slice(None), ins, *_window(convolve, place))
            cell: Any = (outs, slice(None), *place)
            out[:, outs] += _channels(w[cell], padded[window])
            grad_x[window] += _channels(w[cell].T, g[:, outs])
            grad_w[cell] = _correlation(padded[window], g[:, outs])
    inside: Any = (..., *[slice(edge, edge + size) for size in convolve.image])
    result = {"forward": out, "gradient of input": grad_x[inside], "gradient of weight": grad_w}
    return whole_bits(np.ascontiguousarray(result[part]), dtype)


def _window(convolve: Convolve, place: tuple[int, ...]) -> Iterator[slice]:
    """The part of the padded image that is multiplied with one cell of the kernel."""
    for cell, size in zip(place, convolve.outputs, strict=True):
        start = cell * convolve.dilation
        yield slice(start, start + convolve.stride * (size - 1) + 1, convolve.stride)


def _channels(weight: Whole, image: Whole) -> Whole:
    """Weight [O, C] times image [B, C, …], summed over the channels: [B, O, …]."""
    return np.moveaxis(np.tensordot(weight, image, axes=([1], [1])), 0, 1)


def _correlation(image: Whole, gradient: Whole) -> Whole:
    """Image [B, C, …] times gradient [B, O, …], summed over all axes but the channels: [O, C]."""
    every = [0, *range(2, image.ndim)]
    sums: Whole = np.tensordot(gradient, image, axes=(every, every))
    return sums
