"""Repeated products of large matrices, with each element compared with its expected value.

A few rows and columns are multiplied as integers on the host. Every round selects a random order,
sign and power of two for the rows and columns of both factors, so each round has a different
expected product, and none of them is computed by a matrix product on the device.
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
from xorbench.machine.probes.matmul import FULL, kinds, single_terms

BASE: Final = 256  # rows and columns that the host multiplies
DENSE: Final = {"float64": 53, "float32": 24, "tf32": 24, "bfloat16": 24, "float16": 15, "int8": 31}
"""A dense product is below 2 to this power, so it is rounded at most once, to a narrow type."""
POWERS: Final = {"float16": (-2, 0), "int8": (0, 0)}
"""Range of powers of two of the scales, for types in which (-8, 8) would over- or underflow."""
ROUNDED: Final = 2.0**-6  # possible error from rounded partial sums, of the largest result


class WrongProduct(NamedTuple):
    """A wrong element, its product in the round, and whether it was reproduced."""

    product: int
    element: WrongElement
    again: bool


class ProductRound(NamedTuple):
    """The result of one round: number of products, number of wrong elements, and the first."""

    kind: str
    products: int
    mismatches: int
    wrong: list[WrongProduct]


class Products:
    """Square products of one type on one device.

    Raises `MemoryError` or PyTorch's out-of-memory error if memory is insufficient.
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
        """Bytes of all matrices of this size."""
        input_bytes = width("float32" if dtype == "tf32" else dtype) // 8
        return 2 * size**2 * (input_bytes + (4 if dtype == "int8" else input_bytes))

    def round(self, number: int, products: int, seconds: float = 0.0) -> ProductRound:
        """Compute at least this many products for at least this time, and verify all elements."""
        end = time.monotonic() + seconds
        kind = self.kinds[number % len(self.kinds)]
        with exact_settings(tf32=self.dtype == "tf32"):
            self._fill(kind, number)
            wrong: list[WrongProduct] = []
            product = mismatches = 0
            while product < products or time.monotonic() < end:
                self._multiply(product)
                if self._differs():
                    count, first = self._located(product)
                    mismatches += count
                    wrong += first
                product += 1
        return ProductRound(kind, product, mismatches, wrong)

    def bare(self, products: int) -> None:
        """Compute products without verification, for comparison."""
        with exact_settings(tf32=self.dtype == "tf32"):
            for product in range(products):
                self._multiply(product)

    def sides(self) -> tuple[Tensor, Tensor, Tensor]:
        """Left factor, transposed right factor, and expected product of the current round."""
        return self._left, self._right, self._expected

    def settle(self) -> None:
        """Wait for the last product."""
        self._result[0, 0].item()

    def blind(self, number: int) -> str:
        """Check that a comparison on this device detects a flipped bit at a random position.

        Returns a description if it does not, and an empty string if it does.
        """
        random = words("product/blind", number, 2)
        place = int(random[0] % np.uint64(self.size**2))
        bit = int(random[1] % np.uint64(width(self.result)))
        self._result.copy_(self._expected)
        flat = self._result.view(-1).view(WIDTHS[self._result.element_size()])
        flat[place] = int(flat[place].item()) ^ _signed(bit, width(self.result))
        if self._differs():
            return ""
        return f"a comparison on {self.device} misses a flipped bit {bit} of element {place}"

    def rounds_partial_sums(self) -> bool:
        """Whether this library stores partial sums of a dense product in a narrow type.

        Such a product differs reproducibly from the expected one at many positions, by at most the
        rounding of the largest sum.
        """
        if self.result in ("float32", "float64", "int32"):
            return False
        self._fill("dense", 0)
        with exact_settings():
            self._multiply(0)
            first = self._result.clone()
            self._multiply(0)
        expected = self._expected.double()
        errors = (first.double() - expected).abs()
        many = int((errors > 0).sum()) * 1000 > errors.numel()
        small = bool(errors.max() <= ROUNDED * expected.abs().max())
        return many and small and torch.equal(first, self._result)

    def _multiply(self, product: int) -> None:
        """Multiply by `mm` and `matmul` in turn; the right factor is stored transposed."""
        right = self._right.t()
        if self.dtype == "int8":
            torch._int_mm(self._left, right, out=self._result)
        elif product % 2:
            torch.matmul(self._left, right, out=self._result)
        else:
            torch.mm(self._left, right, out=self._result)

    def _fill(self, kind: str, number: int) -> None:
        """Fill the factors and the expected product of a round."""
        base = self._bases[kind]
        rows, row_scale = self._side(f"{kind}/rows", number)
        columns, column_scale = self._side(f"{kind}/columns", number)
        self._choose(self._left, base.left, rows, row_scale)
        self._choose(self._right, base.right, columns, column_scale)
        across = base.product.index_select(1, columns.cpu()).to(torch.float64)
        scaled = across * column_scale.cpu().to(torch.float64)
        # An expected zero is +0 for every scale, so signs are selected instead of multiplied.
        both = torch.cat((scaled, -scaled)).add_(0.0).to(self._expected.dtype)
        self._choose(self._expected, both, rows + BASE * (row_scale < 0), row_scale.abs())

    def _side(self, name: str, number: int) -> tuple[Tensor, Tensor]:
        """For each row of a factor: its row in the base, [size], and its scale, [size]."""
        low, high = POWERS.get(self.dtype, (-8, 8))
        random = words(f"product/{name}", number, self.size)
        rows = (random % np.uint64(BASE)).astype(np.int64)
        power = ((random >> np.uint64(16)) % np.uint64(high - low + 1)).astype(np.int64) + low
        sign = np.where(random >> np.uint64(63), -1.0, 1.0)
        scale = torch.from_numpy(np.ldexp(sign, power)).to(torch_type(self._input))
        return torch.from_numpy(rows).to(self.device), scale.to(self.device)

    def _choose(self, into: Tensor, base: Tensor, rows: Tensor, scale: Tensor) -> None:
        torch.index_select(base.to(self.device), 0, rows, out=into)
        into.mul_(scale.to(into.dtype)[:, None])

    def _differs(self) -> bool:
        """Whether any bit of the result differs from the expected product.

        Compares words, since `torch.equal` compares narrow types element by element.
        """
        actual, expected = (m.view(-1).view(torch.int64) for m in (self._result, self._expected))
        return not torch.equal(actual, expected)

    def _located(self, product: int) -> tuple[int, list[WrongProduct]]:
        """The number of wrong elements of the last product, and the first of them.

        The product is repeated to find out whether they are reproduced.
        """
        expected = tensor_bits(self._expected)
        count, first = wrong_elements(expected, tensor_bits(self._result), width(self.result))
        self._multiply(product)
        again = expected != tensor_bits(self._result)
        return count, [WrongProduct(product, wrong, bool(again[wrong.place])) for wrong in first]


class _Base:
    """The factors of the host, left and transposed right, [BASE, size] each, and their product.

    The product, [BASE, BASE], is rounded once to the result's type by integer arithmetic.
    """

    def __init__(self, dtype: str, result: str, kind: str, size: int) -> None:
        name, host = f"product/{dtype}/{kind}/{size}", torch.device("cpu")
        if kind != "dense":
            left, right = single_terms(name, dtype, kind, (BASE, size, BASE))
        else:
            most = largest_entry(size, 2 ** DENSE[dtype], min(FULL[dtype]))
            left = entries(f"{name}/left", 0, (BASE, size), most)
            right = entries(f"{name}/right", 0, (size, BASE), most)
        operand_type = "float32" if dtype == "tf32" else dtype
        self.left = tensor(left, operand_type, host)
        self.right = tensor(right.T, operand_type, host)
        self.product = from_bits(whole_bits(_multiplied(left, right), result), result)


def _multiplied(left: Whole, right: Whole) -> Whole:
    """The exact product of integers.

    Computed in float64 for speed if sums are below 2^53, and verified with integers: a product with
    a random vector modulo 2^64 misses a wrong element with probability 2^-39 (R. Freivalds,
    Probabilistic machines can use less running time, 1977).

    Raises `ArithmeticError` if the verification fails.
    """
    bound = int(np.abs(left).sum(-1).max()) * int(np.abs(right).max())
    if bound >= 2**53:
        product: Whole = np.matmul(left, right)
        return product
    product = np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)
    random = words("product/proof", 0, right.shape[1]).view(np.int64)
    if not np.array_equal(left @ (right @ random), product @ random):
        raise ArithmeticError("this processor multiplies incorrectly in float64, before any probe")
    return product


def _signed(bit: int, bits: int) -> int:
    """A mask of one bit as a signed number of `bits` bits."""
    return -(1 << bit) if bit == bits - 1 else 1 << bit
