"""Cases with an exact result, computed on a device and compared bitwise."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xorbench.machine.probes.integers import Whole
from xorbench.machine.probes.rounding import FORMATS, Pattern, rounded

Arrays: TypeAlias = Mapping[str, Whole]
WIDTHS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer type that views the bits of an element, by its size in bytes."""
INTEGER_BITS: Final = {"uint8": 8, "int8": 8, "int16": 16, "int32": 32, "int64": 64}
SHOWN: Final = 4  # wrong elements of a result that are described


@dataclass(frozen=True)
class ExactCase:
    """A computation whose result is bitwise identical on every device.

    Attributes:
        name: name such as `bfloat16 dense addmm 31×127×7`, unique within its probe.
        dtype: the type of the result.
        make: the input integers, from SplitMix64.
        expected: the expected bit patterns, by integer arithmetic.
        compute: the result on a device.
        missing: the reason why a device or this PyTorch does not support it, or empty.
    """

    name: str
    dtype: str
    make: Callable[[], Arrays]
    expected: Callable[[Arrays], Pattern]
    compute: Callable[[Arrays, torch.device], Tensor]
    missing: Callable[[torch.device], str] = lambda _device: ""


class WrongElement(NamedTuple):
    """A wrong element, as bit patterns of `bits` bits."""

    place: tuple[int, ...]
    expected: int
    actual: int
    bits: int

    def hex(self, pattern: int) -> str:
        """A bit pattern with the hex digits of an element."""
        return f"{pattern:0{self.bits // 4}x}"

    def flipped(self) -> list[int]:
        """The positions of the bits that differ, from 0, the lowest."""
        return [place for place in range(self.bits) if (self.expected ^ self.actual) >> place & 1]

    def __str__(self) -> str:
        flipped = self.flipped()
        bits = ", ".join(map(str, flipped[:8])) + (" …" if len(flipped) > 8 else "")
        return (
            f"element {list(self.place)}: expected {self.hex(self.expected)},"
            f" got {self.hex(self.actual)} (bits {bits})"
        )


def width(dtype: str) -> int:
    """Number of bits of an element."""
    return FORMATS[dtype].width if dtype in FORMATS else INTEGER_BITS[dtype]


def torch_type(dtype: str) -> torch.dtype:
    """The PyTorch type of this name."""
    kind = getattr(torch, dtype)
    assert isinstance(kind, torch.dtype)
    return kind


def gradient(outputs: Tensor, inputs: Tensor, output_gradient: Tensor) -> Tensor:
    """The gradient of an input for a gradient of the outputs.

    Computed from a sum of products, since passing `grad_outputs` makes PyTorch import SymPy, which
    takes longer than all probes.
    """
    return torch.autograd.grad((outputs * output_gradient).sum(), inputs)[0]


def whole_bits(values: Whole, dtype: str) -> Pattern:
    """The bits of integers in a type, with floats rounded to nearest even."""
    if dtype in FORMATS:
        return rounded(values, 0, FORMATS[dtype])
    return values.view(np.uint64) & np.uint64(2 ** INTEGER_BITS[dtype] - 1)


def tensor(values: Whole, dtype: str, device: torch.device) -> Tensor:
    """Integers that are exact in the type, as a tensor on the device.

    The tensor has its own memory, so in-place operations do not change the integers.
    """
    exact = torch.from_numpy(np.array(values, order="C"))
    if dtype in FORMATS:
        exact = exact.to(torch.float64).to(torch.float32 if dtype != "float64" else torch.float64)
    return exact.to(torch_type(dtype)).to(device)


def tensor_bits(values: Tensor) -> Pattern:
    """The bit patterns of a tensor, copied to the host."""
    size = values.element_size()
    flat = values.detach().contiguous().view(WIDTHS[size]).cpu().numpy()
    return flat.astype(np.int64).view(np.uint64) & np.uint64(2 ** (8 * size) - 1)


def from_bits(bits: Pattern, dtype: str) -> Tensor:
    """Bit patterns as a tensor of the type on the host."""
    kind = torch_type(dtype)
    return torch.from_numpy(bits.view(np.int64)).to(WIDTHS[width(dtype) // 8]).view(kind)


def digest(bits: Pattern, dtype: str) -> str:
    """SHA-256 over type, shape and little-endian bytes."""
    head = f"{dtype} {list(bits.shape)}\n".encode()
    return hashlib.sha256(head + bits.astype(f"<u{width(dtype) // 8}").tobytes()).hexdigest()


class WrongElements(NamedTuple):
    """The number of wrong elements of a result, and the first of them."""

    total: int
    first: list[WrongElement]


def wrong_elements(expected: Pattern, actual: Pattern, bits: int) -> WrongElements:
    """The elements that differ, for arrays of equal shape."""
    wrong = np.flatnonzero(expected != actual)
    places = [tuple(map(int, np.unravel_index(i, expected.shape))) for i in wrong[:SHOWN]]
    first = [WrongElement(p, int(expected[p]), int(actual[p]), bits) for p in places]
    return WrongElements(len(wrong), first)


def difference(case: ExactCase, device: torch.device, expected: str) -> str:
    """A description of a device's wrong result; empty if it has the expected digest."""
    arrays = case.make()
    with exact_settings():
        actual = tensor_bits(case.compute(arrays, device))
    if digest(actual, case.dtype) == expected:
        return ""
    golden = case.expected(arrays)
    if golden.shape != actual.shape:
        return f"shape {list(actual.shape)} instead of {list(golden.shape)}"
    mismatches, first = wrong_elements(golden, actual, width(case.dtype))
    if not mismatches:
        return f"xorbench's golden digest differs from its own expected result ({case.dtype})"
    return f"{mismatches} of {golden.size} elements, {'; '.join(map(str, first))}"


@contextmanager
def exact_settings(*, tf32: bool = False) -> Iterator[None]:
    """Disable reduced precision and NNPACK, and restore all settings on exit.

    NNPACK and Winograd transform the inputs of a convolution and round them.
    """
    cuda = torch.backends.cuda.matmul
    names = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = {name: getattr(cuda, name) for name in names}
    precision = torch.get_float32_matmul_precision()
    with (
        torch.backends.nnpack.flags(enabled=False),
        torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled,
            benchmark=False,
            deterministic=True,
            allow_tf32=tf32,
        ),
    ):
        try:
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
            for name in names:
                setattr(cuda, name, False)
            yield
        finally:
            for name, value in before.items():
                setattr(cuda, name, value)
            torch.set_float32_matmul_precision(precision)
