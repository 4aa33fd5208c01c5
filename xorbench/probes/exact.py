"""One result with one right answer: made, computed on a device, and compared bit by bit."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xorbench.probes.integers import Whole
from xorbench.probes.rounding import FORMATS, Pattern, rounded

Arrays: TypeAlias = Mapping[str, Whole]
Tensors: TypeAlias = Mapping[str, Tensor]
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

    def flipped(self) -> list[int]:
        """The places of the bits that differ, from 0, the lowest."""
        return [place for place in range(self.bits) if (self.expected ^ self.actual) >> place & 1]

    def __str__(self) -> str:
        digits = self.bits // 4
        some = ", ".join(map(str, self.flipped()[:8])) + (" …" if len(self.flipped()) > 8 else "")
        return (
            f"element {list(self.place)}: expected {self.expected:0{digits}x},"
            f" got {self.actual:0{digits}x} (bits {some})"
        )


def width(dtype: str) -> int:
    """Bits of an element."""
    return FORMATS[dtype].width if dtype in FORMATS else INTEGER_BITS[dtype]


def torch_type(dtype: str) -> torch.dtype:
    """The type of this name in PyTorch."""
    found = getattr(torch, dtype)
    assert isinstance(found, torch.dtype)
    return found


def gradient(outputs: Tensor, of: Tensor, given: Tensor) -> Tensor:
    """The gradient of an input, `given` that of the outputs.

    By way of a sum of products, whose backward gives just that: the direct way has PyTorch import
    SymPy, which takes longer than all the probes.
    """
    return torch.autograd.grad((outputs * given).sum(), of)[0]


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


def tensor_bits(found: Tensor) -> Pattern:
    """The bit patterns of a tensor, of its shape, fetched from its device."""
    size = found.element_size()
    flat = found.detach().contiguous().view(WIDTHS[size]).cpu().numpy()
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


def wrong_elements(right: Pattern, found: Pattern, bits: int) -> WrongElements:
    """The elements that differ, the first few by name; shapes are equal."""
    differs = right != found
    places = (np.unravel_index(at, right.shape) for at in np.flatnonzero(differs)[:SHOWN])
    named = [tuple(int(i) for i in place) for place in places]
    first = [WrongElement(at, int(right[at]), int(found[at]), bits) for at in named]
    return WrongElements(int(np.count_nonzero(differs)), first)


class ComparedCase(NamedTuple):
    """What a device gave for a case: the digests, and in words what is wrong."""

    expected: str
    actual: str
    wrong: str


def compare(case: ExactCase, device: torch.device, expected: str) -> ComparedCase:
    """Compute a case on a device and compare the result's digest with the expected one."""
    arrays = case.make()
    with exact_settings():
        found = tensor_bits(case.compute(arrays, device))
    actual = digest(found, case.dtype)
    if actual == expected:
        return ComparedCase(expected, actual, "")
    return ComparedCase(expected, actual, _said(case.right(arrays), found, case.dtype))


def _said(right: Pattern, found: Pattern, dtype: str) -> str:
    if right.shape != found.shape:
        return f"shape {list(found.shape)} in place of {list(right.shape)}"
    wrong = wrong_elements(right, found, width(dtype))
    if not wrong.wrongs:
        return f"this xorbench's golden digest is not its own right answer's ({dtype})"
    shown = "; ".join(map(str, wrong.first))
    return f"{wrong.wrongs} of {right.size} elements, {shown}"


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
