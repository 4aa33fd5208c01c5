"""Products of large matrices, over and over, each element of each compared with its right answer.

A few rows and columns are multiplied as integers on the host. Every round draws which of them
stand where, with which sign and times which power of two, on all sides of the product: so each
round has another right answer, and none of them was computed on a device.
"""

import time
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xorbench.machine.probes.exact import (
    WIDTHS,
    WrongElement,
    exact_settings,
    from_bits,
    tensor,
    tensor_bits,
    torch_type,
    whole_bits,
    width,
    wrong_elements,
)
from xorbench.machine.probes.integers import Whole, entries, largest_entry, words
from xorbench.machine.probes.matmul import FULL, kinds, one_at_a_time

BASE: Final = 256  # rows and columns that the host multiplies
DENSE: Final = {"float64": 53, "float32": 24, "tf32": 24, "bfloat16": 24, "float16": 15, "int8": 31}
"""A dense product stays below 2 to this power: it is rounded once, where its type is narrow."""
POWERS: Final = {"float16": (-2, 0), "int8": (0, 0)}
"""By which powers of two rows and columns are scaled, where (-8, 8) would over- or underflow."""
ROUNDED: Final = 2.0**-6  # of the largest result: what rounding partial sums may add up to


class WrongProduct(NamedTuple):
    """An element of a product that is wrong: which product of which round, and whether again."""

    product: int
    element: WrongElement
    again: bool


class ProductRound(NamedTuple):
    """What one round did: its products, how many elements are wrong, and the first of each."""

    kind: str
    products: int
    wrongs: int
    wrong: list[WrongProduct]


class Products:
    """Square products of one type on one device.

    Raises `MemoryError` or PyTorch's out-of-memory error where the device has not enough.
    """

    def __init__(self, dtype: str, size: int, device: torch.device) -> None:
        self.dtype, self.size, self.device = dtype, size, device
        self._input = "float32" if dtype == "tf32" else dtype
        self.result = "int32" if dtype == "int8" else self._input
        empty = partial(torch.empty, (size, size), device=device)
        self._left, self._right = (empty(dtype=torch_type(self._input)) for _ in range(2))
        self._result, self._expected = (empty(dtype=torch_type(self.result)) for _ in range(2))
        self._bases = {kind: _Base(dtype, self.result, kind, size) for kind in kinds(dtype)}
        self.kinds = list(kinds(dtype))

    @staticmethod
    def bytes_for(dtype: str, size: int) -> int:
        """Bytes of all the matrices of a size."""
        given = width("float32" if dtype == "tf32" else dtype) // 8
        return 2 * size**2 * (given + (4 if dtype == "int8" else given))

    def round(self, number: int, products: int, seconds: float = 0.0) -> ProductRound:
        """Multiply so many times at least, and so long; verify every element of every product."""
        end = time.monotonic() + seconds
        kind = self.kinds[number % len(self.kinds)]
        with exact_settings(tf32=self.dtype == "tf32"):
            self._fill(kind, number)
            wrong: list[WrongProduct] = []
            product = wrongs = 0
            while product < products or time.monotonic() < end:
                self._multiply(product)
                if self._differs():
                    count, first = self._located(product)
                    wrongs += count
                    wrong += first
                product += 1
        return ProductRound(kind, product, wrongs, wrong)

    def bare(self, products: int) -> None:
        """Multiply so many times and look at nothing: what verifying is compared with."""
        with exact_settings(tf32=self.dtype == "tf32"):
            for product in range(products):
                self._multiply(product)

    def sides(self) -> tuple[Tensor, Tensor, Tensor]:
        """Left factor, right factor transposed, and the right answer, of the present round."""
        return self._left, self._right, self._expected

    def settle(self) -> None:
        """Wait until the last product is there."""
        self._result[0, 0].item()

    def blind(self, number: int) -> str:
        """Why a comparison on this device is invalid: it misses a bit that is flipped.

        Empty where it sees the bit, at a place and in a bit that the round draws.
        """
        drawn = words("product/blind", number, 2)
        place = int(drawn[0] % np.uint64(self.size**2))
        bit = int(drawn[1] % np.uint64(width(self.result)))
        self._result.copy_(self._expected)
        flat = self._result.view(-1).view(WIDTHS[self._result.element_size()])
        flat[place] = int(flat[place].item()) ^ _signed(bit, width(self.result))
        if self._differs():
            return ""
        return f"a comparison on {self.device} does not see bit {bit} of element {place} flipped"

    def rounds_partial_sums(self) -> bool:
        """Whether this library stores partial sums of a dense product in a narrow type.

        It then differs from the right answer at many places, each time the same, by no more than
        the largest sum is rounded: it is not judged.
        """
        if self.result in ("float32", "float64", "int32"):
            return False
        self._fill("dense", 0)
        with exact_settings():
            self._multiply(0)
            first = self._result.clone()
            self._multiply(0)
        right = self._expected.double()
        errors = (first.double() - right).abs()
        many = int((errors > 0).sum()) * 1000 > errors.numel()
        small = bool(errors.max() <= ROUNDED * right.abs().max())
        return many and small and torch.equal(first, self._result)

    def _multiply(self, product: int) -> None:
        """By `mm` and by `matmul` in turn; the right factor lies transposed."""
        right = self._right.t()
        if self.dtype == "int8":
            torch._int_mm(self._left, right, out=self._result)
        elif product % 2:
            torch.matmul(self._left, right, out=self._result)
        else:
            torch.mm(self._left, right, out=self._result)

    def _fill(self, kind: str, number: int) -> None:
        """The factors and the right answer of a round."""
        base = self._bases[kind]
        rows, row_scale = self._side(f"{kind}/rows", number)
        columns, column_scale = self._side(f"{kind}/columns", number)
        self._choose(self._left, base.left, rows, row_scale)
        self._choose(self._right, base.right, columns, column_scale)
        across = base.product.index_select(1, columns.cpu()).to(torch.float64)
        scaled = across * column_scale.cpu().to(torch.float64)
        # A right answer of zero is +0, whatever it was multiplied by: so signs are not multiplied.
        both = torch.cat((scaled, -scaled)).add_(0.0).to(self._expected.dtype)
        self._choose(self._expected, both, rows + BASE * (row_scale < 0), row_scale.abs())

    def _side(self, name: str, number: int) -> tuple[Tensor, Tensor]:
        """For each row of a factor: the row of the base, [size], and its factor, [size]."""
        low, high = POWERS.get(self.dtype, (-8, 8))
        drawn = words(f"product/{name}", number, self.size)
        rows = (drawn % np.uint64(BASE)).astype(np.int64)
        power = ((drawn >> np.uint64(16)) % np.uint64(high - low + 1)).astype(np.int64) + low
        sign = np.where(drawn >> np.uint64(63), -1.0, 1.0)
        scale = torch.from_numpy(np.ldexp(sign, power)).to(torch_type(self._input))
        return torch.from_numpy(rows).to(self.device), scale.to(self.device)

    def _choose(self, into: Tensor, base: Tensor, rows: Tensor, scale: Tensor) -> None:
        torch.index_select(base.to(self.device), 0, rows, out=into)
        into.mul_(scale.to(into.dtype)[:, None])

    def _differs(self) -> bool:
        """Whether any bit of the result differs from the right answer.

        As whole words: `torch.equal` of narrow types compares element by element.
        """
        actual, right = (m.view(-1).view(torch.int64) for m in (self._result, self._expected))
        return not torch.equal(actual, right)

    def _located(self, product: int) -> tuple[int, list[WrongProduct]]:
        """How many elements of the last product are wrong, and the first of them.

        It is done again, to see if these come out wrong again.
        """
        right = tensor_bits(self._expected)
        count, first = wrong_elements(right, tensor_bits(self._result), width(self.result))
        self._multiply(product)
        again = right != tensor_bits(self._result)
        return count, [WrongProduct(product, wrong, bool(again[wrong.place])) for wrong in first]


class _Base:
    """What the host multiplies: left [BASE, size], right transposed [BASE, size], and the product.

    The product is rounded once to the result's type, by integer arithmetic: [BASE, BASE].
    """

    def __init__(self, dtype: str, result: str, kind: str, size: int) -> None:
        name, host = f"product/{dtype}/{kind}/{size}", torch.device("cpu")
        if kind != "dense":
            left, right = one_at_a_time(name, dtype, kind, (BASE, size, BASE))
        else:
            most = largest_entry(size, 2 ** DENSE[dtype], min(FULL[dtype]))
            left = entries(f"{name}/left", 0, (BASE, size), most)
            right = entries(f"{name}/right", 0, (size, BASE), most)
        given = "float32" if dtype == "tf32" else dtype
        self.left, self.right = tensor(left, given, host), tensor(right.T, given, host)
        self.product = from_bits(whole_bits(_multiplied(left, right), result), result)


def _multiplied(left: Whole, right: Whole) -> Whole:
    """The product of whole numbers, exact.

    In float64, whose sums stay below 2^53, since that is fast. Integers then prove it: a product
    with a drawn vector, modulo 2^64, would differ for a wrong element but once in 2^39 times
    (R. Freivalds, Probabilistic machines can use less running time, 1977).

    Raises `ArithmeticError` where it does.
    """
    bound = int(np.abs(left).sum(-1).max()) * int(np.abs(right).max())
    if bound >= 2**53:
        product: Whole = np.matmul(left, right)
        return product
    product = np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)
    drawn = words("product/proof", 0, right.shape[1]).view(np.int64)
    if not np.array_equal(left @ (right @ drawn), product @ drawn):
        raise ArithmeticError("this processor multiplies wrong in float64, before any probe")
    return product


def _signed(bit: int, bits: int) -> int:
    """A mask of one bit, as a signed number of so many bits."""
    return -(1 << bit) if bit == bits - 1 else 1 << bit
