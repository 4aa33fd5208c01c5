"""Random relative errors in the steps of a reference: Monte Carlo arithmetic.

A reference runs again with noise to measure how much the rounding of a kernel may change its
result. Sums of n terms get the relative error u·√n in their terms, all other steps u.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .arrays import array

FLOAT64 = 2.0**-52  # noise below this is lost if it is added to 1


class _Active(threading.local):
    """The noise of the references that run in this thread, innermost last."""

    def __init__(self) -> None:
        self.noise: list[Noise] = []


ACTIVE = _Active()


class Noise:
    """Noise of relative size `u`, of size `sums` in the terms of sums, and at least `tiny`."""

    def __init__(self, u: float = 0.0, sums: float = 0.0, tiny: float = 0.0, seed: int = 0) -> None:
        self.u, self.sums, self.tiny = u, sums, tiny
        self._random = np.random.default_rng(seed)

    def add(self, value: Any, u: float, absolute: float = 0.0, *, exact: bool = False) -> Any:
        """A floating-point tensor with a random relative error between u/2 and u.

        If `exact`, small whole numbers have none, since rounding keeps them.
        """
        if not isinstance(value, Tensor) or not self.u or not value.numel():
            return value
        if not (value.is_floating_point() or value.is_complex()):
            return value
        draw = self._random.random(tuple(value.shape)) - 0.5
        draw += np.copysign(0.5, draw)
        with np.errstate(all="ignore"):  # infinities stay infinite
            x = array(value)
            noisy = x * (1 + max(u, FLOAT64) * draw) + (self.tiny + absolute) * draw
        if exact:
            noisy = np.where((x == np.rint(x)) & (np.abs(x) < 1 / u), x, noisy)
        return torch.from_numpy(np.asarray(noisy))


def growth(terms: float) -> float:
    """The growth of the rounding error in a sum; a long sequential sum grows like its length."""
    root = math.sqrt(max(terms, 1))
    return root * max(1.0, root / 16)


def product(compute: Callable[..., Tensor], terms: float, *factors: Tensor) -> Tensor:
    """A product of tensors that sums `terms` terms per element, as one step of a reference."""
    noise = ACTIVE.noise[-1]
    with _disable_current_modes():
        noisy = [noise.add(factor, noise.sums * growth(terms)) for factor in factors]
        return noise.add(compute(*noisy), noise.u)
