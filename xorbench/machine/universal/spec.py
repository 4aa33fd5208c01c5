"""The common basis of all backends: integers, points, initial weights, order, digest.

This module uses integer arithmetic, and float32 arithmetic that is exact or rounds once, so it is
bitwise identical on every machine. It needs only NumPy and the standard library.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from xorbench.errors import BadOption

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]
Bits: TypeAlias = npt.NDArray[np.uint32]
"""Bit patterns of float32 numbers."""

GOLDEN_GAMMA: Final = 0x9E3779B97F4A7C15
MIX_1: Final = 0xBF58476D1CE4E5B9
MIX_2: Final = 0x94D049BB133111EB
NORMAL_MEAN: Final = 393_210
"""The mean of the integer sum of twelve 16-bit pieces: 12 * 65535 / 2."""

TANH_LIMIT: Final = float(np.float32(4.9))
TANH_P: Final = (378.0, 17325.0, 135135.0)
"""Lambert's numerator: ((s + 378)*s + 17325)*s + 135135."""
TANH_Q: Final = (28.0, 3150.0, 62370.0, 135135.0)
"""Lambert's denominator: ((s*28 + 3150)*s + 62370)*s + 135135."""


class Parameter(NamedTuple):
    """One tensor of the model: its random stream and its name in a ``state_dict``."""

    stream: str
    name: str
    shape: tuple[int, ...]
    bound: float

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


PARAMETERS: Final = (
    Parameter("w1", "layer1.weight", (4, 2), 2**-0.5),
    Parameter("b1", "layer1.bias", (4,), 2**-0.5),
    Parameter("w2", "layer2.weight", (1, 4), 0.5),
    Parameter("b2", "layer2.bias", (1,), 0.5),
)
HIDDEN: Final = 4
SIZE: Final = sum(parameter.size for parameter in PARAMETERS)
"""17 numbers per model in the order of ``PARAMETERS``, row-major; a *column* is one of them."""

W1: Final = tuple((2 * j, 2 * j + 1) for j in range(HIDDEN))
"""The columns of ``w1[j, 0]`` and ``w1[j, 1]``."""
B1: Final = tuple(2 * HIDDEN + j for j in range(HIDDEN))
W2: Final = tuple(3 * HIDDEN + j for j in range(HIDDEN))
B2: Final = 4 * HIDDEN


@dataclass(frozen=True)
class UniversalRecipe:
    """Everything except the seed that determines the result of a universal training.

    Sizes are numbers of points; ``std`` is the standard deviation of the noise, ``lr``
    the learning rate.

    Raises:
        BadOption: a value is out of its range.
    """

    train_size: int = 2500
    test_size: int = 500
    std: float = 0.1
    lr: float = 0.1
    epochs: int = 100
    batch_size: int = 128
    drop_last: bool = True

    def __post_init__(self) -> None:
        for name in ("train_size", "test_size", "epochs", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                option = name.replace("_", "-")
                raise BadOption(f"--{option}: must be a whole number, at least 1, got {value!r}")
        for name in ("std", "lr"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadOption(f"--{name}: must be finite and not negative, got {value!r}")
        if not self.batches:
            raise BadOption(
                f"--batch-size: {self.batch_size} leaves no full batch of {self.train_size} points",
                hint="use a smaller batch, or keep the short one (drop_last false)",
            )

    @property
    def batches(self) -> tuple[slice, ...]:
        """The consecutive pieces of an epoch's order, one per step."""
        starts = range(0, self.train_size, self.batch_size)
        pieces = [slice(i, min(i + self.batch_size, self.train_size)) for i in starts]
        full = [piece for piece in pieces if piece.stop - piece.start == self.batch_size]
        return tuple(full if self.drop_last else pieces)

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return self.epochs * len(self.batches)


class UniversalPoints(NamedTuple):
    """Points of one seed ([n] each) or of S seeds ([S, n] each), float32; labels are 0.0 or 1.0."""

    x0: Floats
    x1: Floats
    label: Floats


# ----------------------------------------------------------------------------------- integers


def key(name: str, seed: int) -> int:
    """The 64-bit key of a random stream: the start of the SHA-256 of its name and seed."""
    text = f"xorbench-universal-1/{name}/{seed}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def keys(name: str, seeds: Sequence[int]) -> Words:
    """The keys of one stream for many seeds, [S]."""
    return np.array([key(name, seed) for seed in seeds], dtype=np.uint64)


def mix(z: Words) -> Words:
    """The finalizer of SplitMix64, modulo 2**64 (Steele, Lea and Flood 2014)."""
    mixed = z ^ (z >> np.uint64(30))
    mixed *= np.uint64(MIX_1)  # in place, since allocation costs more than the arithmetic
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(MIX_2)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def u64(stream: int | Words, start: int, stop: int) -> Words:
    """Words ``start`` to ``stop - 1`` of a stream, [stop - start], or of streams, [..., 1] each."""
    counters = np.arange(start + 1, stop + 1, dtype=np.uint64)
    counters *= np.uint64(GOLDEN_GAMMA)
    return mix(counters + np.asarray(stream, dtype=np.uint64))


# --------------------------------------------------------------------------------------- data


def bits(name: str, seed: int, n: int) -> Integers:
    """The two bits of each point, [n, 2]: the top bits of a stream's words."""
    words = u64(key(f"{name}-bits", seed), 0, 2 * n)
    return (words >> np.uint64(63)).astype(np.int64).reshape(n, 2)


def normals(name: str, seed: int, n: int) -> Floats:
    """The noise of each coordinate, [n, 2], variance 1: exact sums of twelve uniforms."""
    words = u64(key(f"{name}-noise", seed), 0, 6 * n).reshape(n, 2, 3)
    pieces = [(words >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48)]
    total = np.asarray(np.stack(pieces).sum(axis=(0, -1)), dtype=np.int64)
    return (total - NORMAL_MEAN).astype(np.float32) * np.float32(2**-16)


def points(name: str, seed: int, n: int, std: float) -> UniversalPoints:
    """The ``train`` or ``test`` points of one seed, [n] each."""
    bit = bits(name, seed, n)
    x = bit.astype(np.float32) + np.float32(std) * normals(name, seed, n)
    label = (bit[:, 0] != bit[:, 1]).astype(np.float32)
    return UniversalPoints(x[:, 0].copy(), x[:, 1].copy(), label)


def ensemble_points(name: str, seeds: Sequence[int], n: int, std: float) -> UniversalPoints:
    """The points of S seeds, [S, n] each; a repeated seed is generated once."""
    by_seed = {seed: points(name, seed, n, std) for seed in set(seeds)}
    rows = [by_seed[seed] for seed in seeds]
    return UniversalPoints(*(np.stack(part) for part in zip(*rows, strict=True)))


def initial_weights(seeds: Sequence[int]) -> Floats:
    """The weights before the first step, [S, 17]."""
    return np.concatenate([_initial(parameter, seeds) for parameter in PARAMETERS], axis=1)


def _initial(parameter: Parameter, seeds: Sequence[int]) -> Floats:
    words = u64(keys(parameter.stream, seeds)[:, None], 0, parameter.size) >> np.uint64(40)
    centred = (words.astype(np.int64) - 2**23).astype(np.float32)
    return (centred * np.float32(2**-23)) * np.float32(parameter.bound)


def epoch_order(epoch: int, n: int) -> Integers:
    """The order of the n points in an epoch (from 0), equal for all seeds, [n]."""
    words = u64(key("shuffle", 0), epoch * n, (epoch + 1) * n)
    return np.argsort(words, kind="stable").astype(np.int64)


# ------------------------------------------------------------------------------------- digest


def state(weights: Floats) -> dict[str, Floats]:
    """One model's 17 numbers by ``state_dict`` name, in order and in shape."""
    edges = np.cumsum([parameter.size for parameter in PARAMETERS])[:-1]
    pieces = np.split(weights, edges)
    return {p.name: piece.reshape(p.shape) for p, piece in zip(PARAMETERS, pieces, strict=True)}


def digests(weights: Floats) -> list[str]:
    """``state_digest.sha256`` of the ``state`` of each of S models, [S, 17], computed directly."""
    raw = np.ascontiguousarray(weights, dtype="<f4").reshape(-1, SIZE)
    return [hashlib.sha256(_framed(row.tobytes())).hexdigest() for row in raw]


def _framed(raw: bytes) -> bytes:
    pieces, start = [], 0
    for head, size in _HEADS:
        pieces += [head, raw[start : start + size]]
        start += size
    return b"".join(pieces)


_HEADS: Final = tuple(
    (f"{p.name}\0float32\0{','.join(map(str, p.shape))}\0".encode(), 4 * p.size) for p in PARAMETERS
)
"""The header before each tensor's bytes, and the number of bytes."""


def combined_sha256(sha256s: Iterable[str]) -> str:
    """SHA-256 of the digests' raw bytes in order: a digest for many trainings."""
    return hashlib.sha256(b"".join(bytes.fromhex(sha256) for sha256 in sha256s)).hexdigest()
