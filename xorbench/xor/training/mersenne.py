"""PyTorch's CPU generator in NumPy: an independent reference for every random draw of a training.

The generator is the Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), seeded with the low
32 bits of the seed. The distributions follow ATen: `TransformationHelper.h` and
`DistributionTemplates.h` for numbers, `TensorFactories.cpp` for `randperm`. This module does not
import torch.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MANTISSA: Final = 24  # random bits in a uniform float32
BLOCK: Final = 16  # normals computed together from as many uniforms
FEWEST_NORMALS: Final = BLOCK  # for fewer, PyTorch uses a different method


class Mersenne:
    """The random numbers of `torch.Generator().manual_seed(seed)` in call order."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed & 0xFFFF_FFFF)

    def words(self, count: int) -> npt.NDArray[np.uint32]:
        """The next words of 32 bits, (count,)."""
        return self._state.randint(0, 2**32, count, dtype=np.uint32)

    def bits(self, count: int) -> IntArray:
        """Like `torch.randint(0, 2, (count,))`: (count,) of 0 and 1."""
        return (self.words(count) & 1).astype(np.int64)

    def uniforms(self, count: int, bound: float) -> FloatArray:
        """Like `torch.empty(count).uniform_(-bound, bound)` without its last rounding: (count,)."""
        return self._units(count) * 2 * bound - bound

    def normals(self, count: int) -> FloatArray:
        """Like `torch.randn(count)`, by Box and Muller in float64: (count,).

        Raises `ValueError` for fewer than `FEWEST_NORMALS`.
        """
        if count < FEWEST_NORMALS:
            raise ValueError(f"fewer than {FEWEST_NORMALS} normals are not supported")
        whole = count - count % BLOCK
        units = self._units(count)
        normals = np.empty(count)
        normals[:whole] = _box_muller(units[:whole])
        if whole < count:  # PyTorch then generates the last block again
            normals[-BLOCK:] = _box_muller(self._units(BLOCK))
        return normals

    def base_seed(self) -> None:
        """Skip the base seed of a `DataLoader`'s iterator: one int64, two words."""
        self.words(2)

    def order(self, count: int) -> IntArray:
        """Like `torch.randperm(count)`, by Fisher and Yates: (count,).

        From 2**32 / 20 points on, `randperm` uses words of 64 bits, which is not supported.
        """
        order = list(range(count))
        for place, ahead in enumerate(self._steps(count)):
            target = place + ahead
            order[place], order[target] = order[target], order[place]
        return np.array(order, dtype=np.int64)

    def discarded_order(self, count: int) -> None:
        """Skip the words of an order."""
        self.words(max(count - 1, 0))

    def _steps(self, count: int) -> list[int]:
        left = np.arange(count, 1, -1, dtype=np.uint32)
        steps: list[int] = (self.words(max(count - 1, 0)) % left).tolist()
        return steps

    def _units(self, count: int) -> FloatArray:
        """Uniform in [0, 1), from the low 24 bits of a word."""
        low = self.words(count) & np.uint32((1 << MANTISSA) - 1)
        return low.astype(np.float64) * 2.0**-MANTISSA


def _box_muller(units: FloatArray) -> FloatArray:
    """Blocks of 16 uniforms as 16 normals: eight radii, eight angles, cosines then sines."""
    blocks = units.reshape(-1, BLOCK)
    radius = np.sqrt(-2 * np.log(1 - blocks[:, : BLOCK // 2]))
    angle = 2 * math.pi * blocks[:, BLOCK // 2 :]
    halves: tuple[Any, Any] = (radius * np.cos(angle), radius * np.sin(angle))
    return np.concatenate(halves, axis=1).ravel()
