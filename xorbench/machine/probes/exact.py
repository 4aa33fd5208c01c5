"""One result with one right answer: made, computed on a device, and compared bit by bit."""

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
"""An integer type as wide as an element, by its bytes: what bits are viewed as."""
INTEGER_BITS: Final = {"uint8": 8, "int8": 8, "int16": 16, "int32": 32, "int64": 64}
SHOWN: Final = 4  # wrong elements of a result that are named


@dataclass(frozen=True)
class ExactCase:
    """A result that every device must give to the bit.

    Attributes:
        name: what it is, such as `bfloat16 dense addmm 31×127×7`; unique within its probe.
        dtype: the type of the result.
        make: the whole numbers that go in, from SplitMix64.
        right: the bit patterns that must come out, by integer arithmetic alone.
        compute: the same on a device, from the arrays.
        missing: why a device or this PyTorch cannot compute it; empty where it can.
    """

    name: str
    dtype: str
    make: Callable[[], Arrays]
    right: Callable[[Arrays], Pattern]
    compute: Callable[[Arrays, torch.device], Tensor]
    missing: Callable[[torch.device], str] = lambda _device: ""


class WrongElement(NamedTuple):
    """An element that is not what it must be, as bit patterns of `bits` bits."""

    place: tuple[int, ...]
    expected: int
    actual: int
    bits: int

    def hex(self, pattern: int) -> str:
        """A bit pattern in as many hex digits as an element has."""
        return f"{pattern:0{self.bits // 4}x}"

    def flipped(self) -> list[int]:
        """The places of the bits that differ, from 0, the lowest."""
        return [place for place in range(self.bits) if (self.expected ^ self.actual) >> place & 1]

    def __str__(self) -> str:
        flipped = self.flipped()
        bits = ", ".join(map(str, flipped[:8])) + (" …" if len(flipped) > 8 else "")
        return (
            f"element {list(self.place)}: expected {self.hex(self.expected)},"
            f" got {self.hex(self.actual)} (bits {bits})"
        )


def width(dtype: str) -> int:
    """Bits of an element."""
    return FORMATS[dtype].width if dtype in FORMATS else INTEGER_BITS[dtype]


def torch_type(dtype: str) -> torch.dtype:
    """The type of this name in PyTorch."""
    kind = getattr(torch, dtype)
    assert isinstance(kind, torch.dtype)
    return kind


def gradient(outputs: Tensor, inputs: Tensor, output_gradient: Tensor) -> Tensor:
    """The gradient of an input, from that of the outputs.

    By way of a sum of products, whose backward gives just that: the direct way has PyTorch import
    SymPy, which takes longer than all the probes.
    """
    return torch.autograd.grad((outputs * output_gradient).sum(), inputs)[0]


def whole_bits(values: Whole, dtype: str) -> Pattern:
    """The bits of whole numbers in a type, floats rounded to nearest even."""
    if dtype in FORMATS:
        return rounded(values, 0, FORMATS[dtype])
    return values.view(np.uint64) & np.uint64(2 ** INTEGER_BITS[dtype] - 1)


def tensor(values: Whole, dtype: str, device: torch.device) -> Tensor:
    """Whole numbers, exact in the type, as a tensor of their shape on the device.

    It has memory of its own: what computes in place leaves the numbers as they are.
    """
    exact = torch.from_numpy(np.array(values, order="C"))
    if dtype in FORMATS:
        exact = exact.to(torch.float64).to(torch.float32 if dtype != "float64" else torch.float64)
    return exact.to(torch_type(dtype)).to(device)


def tensor_bits(values: Tensor) -> Pattern:
    """The bit patterns of a tensor, of its shape, fetched from its device."""
    size = values.element_size()
    flat = values.detach().contiguous().view(WIDTHS[size]).cpu().numpy()
    return flat.astype(np.int64).view(np.uint64) & np.uint64(2 ** (8 * size) - 1)


def from_bits(bits: Pattern, dtype: str) -> Tensor:
    """Bit patterns as a tensor of the type, of their shape, on the host."""
    kind = torch_type(dtype)
    return torch.from_numpy(bits.view(np.int64)).to(WIDTHS[width(dtype) // 8]).view(kind)


def digest(bits: Pattern, dtype: str) -> str:
    """SHA-256 over type, shape and little-endian bytes."""
    head = f"{dtype} {list(bits.shape)}\n".encode()
    return hashlib.sha256(head + bits.astype(f"<u{width(dtype) // 8}").tobytes()).hexdigest()


class WrongElements(NamedTuple):
    """How many elements of a result are wrong, and the first of them."""

    wrongs: int
    first: list[WrongElement]


def wrong_elements(right: Pattern, actual: Pattern, bits: int) -> WrongElements:
    """The elements that differ, the first few by name; shapes are equal."""
    wrong = np.flatnonzero(right != actual)
    places = [tuple(map(int, np.unravel_index(i, right.shape))) for i in wrong[:SHOWN]]
    first = [WrongElement(place, int(right[place]), int(actual[place]), bits) for place in places]
    return WrongElements(len(wrong), first)


def difference(case: ExactCase, device: torch.device, expected: str) -> str:
    """What is wrong with a device's result, in words; empty where it has the expected digest."""
    arrays = case.make()
    with exact_settings():
        actual = tensor_bits(case.compute(arrays, device))
    if digest(actual, case.dtype) == expected:
        return ""
    right = case.right(arrays)
    if right.shape != actual.shape:
        return f"shape {list(actual.shape)} in place of {list(right.shape)}"
    wrongs, first = wrong_elements(right, actual, width(case.dtype))
    if not wrongs:
        return f"this xorbench's golden digest is not its own right answer's ({case.dtype})"
    return f"{wrongs} of {right.size} elements, {'; '.join(map(str, first))}"


@contextmanager
def exact_settings(*, tf32: bool = False) -> Iterator[None]:
    """Reduced precision and NNPACK off, and everything as it was afterwards.

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
