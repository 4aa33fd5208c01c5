"""Detection by the exact probes: faults of a simulated unit, and toggle coverage.

    python bench/probe_detection.py --flips 2000

A matrix product is computed like in a systolic array: lane (i mod 8, j mod 8) multiplies and adds
its terms in order. One lane has a fault: a bit that is stuck at 0 or 1, or flips once, in an input,
in the accumulator or in the stored result. A fault is detected if the products of the canary differ
in any bit from the expected ones. The other probes run on this PyTorch with a bit flipped in an
input or in a result. Shares have Wilson's 95% interval.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from xorbench.machine.probes import matmul
from xorbench.machine.probes.exact import tensor_bits, torch_type, whole_bits, width
from xorbench.machine.probes.golden import cases_of, golden
from xorbench.machine.probes.memory import MemoryRegion, compiled
from xorbench.machine.probes.product import Products
from xorbench.machine.probes.rounding import FORMATS, decoded
from xorbench.report.text import to_markdown
from xorbench.stats.intervals import wilson

Bits = npt.NDArray[np.uint64]
Reals = npt.NDArray[Any]
LANES: Final = 8
SITES: Final = ("left input", "right input", "accumulator", "result")
ACCUMULATED: Final = {"float64": "float64", "int8": "int32"}  # float32 for other types
TYPES: Final = ("float32", "float64", "bfloat16", "float16", "int8", "float8_e4m3fn")


class Operands(NamedTuple):
    """One product [M, K] times [K, N] plus [M, N] of integers."""

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    addend: npt.NDArray[np.int64]


@dataclass
class Seen:
    """The bits of a site that had the value 1, and the value 0."""

    ones: int = 0
    zeros: int = 0

    def add(self, bits: Bits) -> None:
        """Add bit patterns."""
        if bits.size:
            self.ones |= int(np.bitwise_or.reduce(bits, axis=None))
            self.zeros |= int(np.bitwise_or.reduce(~bits, axis=None))

    def share(self, size: int) -> float:
        """The share of `size` bits that had both values."""
        both = self.ones & self.zeros & (2**size - 1)
        return both.bit_count() / size


@dataclass
class Tally:
    """Faults of one kind: number of all, of detected ones, and of those without effect."""

    faults: int = 0
    detected: int = 0
    idle: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.faults + other.faults, self.detected + other.detected, self.idle + other.idle
        )

    def shown(self) -> str:
        """The share with its interval."""
        low, high = wilson(self.detected, self.faults)
        return f"{self.detected / self.faults:.1%} [{low:.1%}, {high:.1%}]"


# ------------------------------------------------------------------------- the simulated unit


class Unit:
    """A multiply-and-add unit of one type, with the encoding of its numbers."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.input = dtype
        self.held = ACCUMULATED.get(dtype, "float32")
        self.result = {"int8": "int32"}.get(dtype, dtype)
        if dtype.startswith("float8"):
            self.result = "float32"
        self.real = np.dtype(self.held)

    def encode(self, values: Reals, dtype: str) -> Bits:
        """Numbers of the accumulator's type as bits of a type that holds them exactly."""
        if dtype in ("int8", "int32"):
            return values.astype(np.int64).view(np.uint64) & np.uint64(2 ** width(dtype) - 1)
        if dtype == "float64":
            return np.ascontiguousarray(values, np.float64).view(np.uint64)
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
        if dtype == "float32":
            return bits
        if dtype == "bfloat16":
            return bits >> np.uint64(16)
        through = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(torch_type(dtype))
        return tensor_bits(through)

    def decode(self, bits: Bits, dtype: str) -> Reals:
        """Bits of a type as numbers of the accumulator's type."""
        size = width(dtype)
        if dtype in ("int8", "int32"):
            signed = (bits << np.uint64(64 - size)).view(np.int64) >> (64 - size)
            return signed.astype(self.real)
        if dtype == "float64":
            return bits.view(np.float64)
        if dtype == "bfloat16":
            return (bits << np.uint64(16)).astype(np.uint32).view(np.float32)
        if dtype == "float32":
            return bits.astype(np.uint32).view(np.float32)
        m, e = decoded(bits, FORMATS[dtype])
        return np.ldexp(m.astype(np.float64), e).astype(self.real)

    def store(self, sums: Reals) -> Bits:
        """Sums as stored results, rounded once to a narrower type."""
        if self.result in ("int32", "float64", "float32"):
            return self.encode(sums, self.result)
        with np.errstate(all="ignore"):
            narrow = torch.from_numpy(np.ascontiguousarray(sums, np.float32))
        return tensor_bits(narrow.to(torch_type(self.result)))


def products(dtype: str) -> Iterator[Operands]:
    """The products of the canary of this type."""
    for case in matmul.cases():
        if not case.name.startswith(f"{dtype} "):
            continue
        arrays = case.make()
        left, right, addend = arrays["a"], arrays["b"], arrays["c"]
        shape = (*left.shape[:-1], right.shape[-1])
        addend = np.broadcast_to(addend if addend.any() else np.zeros(1, np.int64), shape)
        if left.ndim == 2:
            left, right, addend = left[None], right[None], addend[None]
        yield from map(Operands, left, right, addend)


def lane_of(operands: Operands, row: int, column: int) -> Operands:
    """The part of a product that one lane computes."""
    left, right, addend = operands
    return Operands(left[row::LANES], right[:, column::LANES], addend[row::LANES, column::LANES])


def stuck(unit: Unit, operands: Operands, site: str, masks: Bits, value: int) -> tuple[Any, Any]:
    """For each mask, whether the fault changes a bit, and whether a result is wrong.

    Computes all faults term once: arrays are [faults, M, N].
    """
    left, right = (part.astype(unit.real) for part in (operands.left, operands.right))
    lefts, rights = left[None], right[None]
    changed = np.zeros(len(masks), bool)
    if site in ("left input", "right input"):
        chosen = left if site == "left input" else right
        bits = unit.encode(chosen, unit.input)
        forced = bits | masks[:, None, None] if value else bits & ~masks[:, None, None]
        changed = (forced != bits).any((1, 2))
        with np.errstate(all="ignore"):
            damaged = unit.decode(forced, unit.input)
        lefts, rights = (damaged, rights) if site == "left input" else (lefts, damaged)
    addend = operands.addend.astype(unit.real)
    sums = np.broadcast_to(addend, (len(masks), *addend.shape)).copy()
    with np.errstate(all="ignore"):
        for k in range(left.shape[1]):
            sums += lefts[:, :, k, None] * rights[:, None, k, :]
            if site == "accumulator":
                bits = unit.encode(sums, unit.held)
                forced = bits | masks[:, None, None] if value else bits & ~masks[:, None, None]
                changed |= (forced != bits).any((1, 2))
                sums = unit.decode(forced, unit.held)
    result = unit.store(sums)
    if site == "result":
        forced = result | masks[:, None, None] if value else result & ~masks[:, None, None]
        changed = (forced != result).any((1, 2))
        result = forced
    return changed, (result != right_bits(unit, operands)).any((1, 2))


def right_bits(unit: Unit, operands: Operands) -> Bits:
    """The expected bits, by integer arithmetic."""
    return whole_bits(operands.left @ operands.right + operands.addend, unit.result)


def size_of(unit: Unit, site: str) -> int:
    """Number of bits of a site."""
    kinds = {"accumulator": unit.held, "result": unit.result}
    return width(kinds.get(site, unit.input))


def stuck_tally(unit: Unit, site: str, lanes: Sequence[tuple[int, int]]) -> Tally:
    """Every bit of a site stuck at 0 and at 1 in some lanes, detected by any product."""
    size = size_of(unit, site)
    masks = np.uint64(1) << np.arange(size, dtype=np.uint64)
    tally = Tally()
    for row, column in lanes:
        for value in (0, 1):
            changed, wrong = np.zeros(size, bool), np.zeros(size, bool)
            for operands in products(unit.dtype):
                lane = lane_of(operands, row, column)
                if lane.left.size and lane.right.size:
                    lane_changed, lane_wrong = stuck(unit, lane, site, masks, value)
                    changed, wrong = changed | lane_changed, wrong | lane_wrong
            tally += Tally(size, int(wrong.sum()), int((~changed).sum()))
    return tally


def flip_tally(unit: Unit, site: str, flips: int, rng: np.random.Generator) -> Tally:
    """Single flips at a random term of a random element of a random product."""
    some = list(products(unit.dtype))
    each = np.bincount(rng.integers(len(some), size=flips), minlength=len(some))
    drawn = [(operands, int(n)) for operands, n in zip(some, each, strict=True) if n]
    return sum((_flipped(unit, operands, site, n, rng) for operands, n in drawn), Tally())


def _flipped(unit: Unit, operands: Operands, site: str, n: int, rng: np.random.Generator) -> Tally:
    (m, terms), columns = operands.left.shape, operands.right.shape[1]
    i, j, term = (rng.integers(size, size=n) for size in (m, columns, terms))
    masks = np.uint64(1) << rng.integers(size_of(unit, site), size=n).astype(np.uint64)
    lefts, rights = operands.left[i].astype(unit.real), operands.right[:, j].T.astype(unit.real)
    index = np.arange(n)
    for name, part in (("left input", lefts), ("right input", rights)):
        if site == name:
            with np.errstate(all="ignore"):
                part[index, term] = unit.decode(
                    unit.encode(part[index, term], unit.input) ^ masks, unit.input
                )
    sums = operands.addend[i, j].astype(unit.real)
    with np.errstate(all="ignore"):
        for k in range(terms):
            sums = sums + lefts[:, k] * rights[:, k]
            hit = term == k
            if site == "accumulator" and hit.any():
                flipped = unit.encode(sums, unit.held) ^ masks
                sums = np.where(hit, unit.decode(flipped, unit.held), sums)
    result = unit.store(sums)
    if site == "result":
        result = result ^ masks
    wrong = result != right_bits(unit, operands)[i, j]
    return Tally(n, int(wrong.sum()), int((~wrong).sum()))


# ------------------------------------------------------------------------- toggle coverage


def toggles(unit: Unit, some: Iterator[Operands]) -> dict[str, Seen]:
    """The bits of each site that the products toggle."""
    seen = {site: Seen() for site in SITES}
    for operands in some:
        seen["left input"].add(unit.encode(operands.left.astype(unit.real), unit.input))
        seen["right input"].add(unit.encode(operands.right.astype(unit.real), unit.input))
        left, right = (part.astype(unit.real) for part in (operands.left, operands.right))
        sums = operands.addend.astype(unit.real)
        for k in range(left.shape[1]):
            sums = sums + left[:, k, None] * right[None, k, :]
            if k < 64 or k % 16 == 0:
                seen["accumulator"].add(unit.encode(sums, unit.held))
        seen["result"].add(right_bits(unit, operands))
    return seen


def burn_in_toggles(unit: Unit, rounds: int) -> dict[str, Seen] | None:
    """The same for the scaled products of the burn-in, at 256 rows."""
    if unit.dtype.startswith("float8"):
        return None
    burned = Products(unit.dtype, 256, torch.device("cpu"))
    seen = {site: Seen() for site in SITES}
    for number in range(rounds):
        burned.round(number, 1)
        left, right, result = burned.sides()
        seen["left input"].add(tensor_bits(left))
        seen["right input"].add(tensor_bits(right))
        seen["result"].add(tensor_bits(result))
        a, b = (part[:48].to(torch_type(unit.held)).numpy() for part in (left, right))
        sums = np.zeros((48, 48), unit.real)
        for k in range(a.shape[1]):
            sums = sums + a[:, k, None] * b[None, :, k]
            seen["accumulator"].add(unit.encode(sums, unit.held))
    return seen


# ------------------------------------------------------------------------- the other probes


def real_tally(probe: str, site: str, flips: int, rng: np.random.Generator) -> Tally:
    """One bit flipped in an input or in the result of a case that this PyTorch computes."""
    cases = [case for case in cases_of(probe) if not case.missing(torch.device("cpu"))]
    tally = Tally()
    while tally.faults < flips:
        case = cases[int(rng.integers(len(cases)))]
        arrays = case.make()
        damaged = _flipped_input(arrays, rng) if site == "input" else arrays
        expected = case.expected(arrays)
        if site == "input" and np.array_equal(case.expected(damaged), expected):
            continue  # an unused operand, or an operand multiplied by zero
        result = tensor_bits(case.compute(damaged, torch.device("cpu")))
        if site == "result":
            bit = int(rng.integers(width(case.dtype)))
            result.flat[int(rng.integers(result.size))] ^= np.uint64(1 << bit)
        tally += Tally(1, int((result != expected).any()))
    return tally


def _flipped_input(arrays: Any, rng: np.random.Generator) -> dict[str, npt.NDArray[np.int64]]:
    """The arrays with one bit or the sign of one integer changed, within its range."""
    changed = {name: values.copy() for name, values in arrays.items()}
    name = list(changed)[int(rng.integers(len(changed)))]
    values = changed[name]
    term = int(rng.integers(values.size))
    before = int(values.flat[term])
    if name == "places":
        values.flat[term] = (before + 1 + int(rng.integers(6))) % 7
    elif before < 0:
        values.flat[term] = -before
    else:
        values.flat[term] = before ^ (1 << int(rng.integers(max(1, before.bit_length()))))
    return changed


def memory_tally(kind: str, rng: np.random.Generator, faults: int = 128) -> Tally:
    """Words of 2 MiB: a bit stuck at 0 or 1, or two aliased addresses, in two rounds."""
    tally = Tally()
    march = compiled()
    for fault in range(faults):
        region = MemoryRegion(torch.device("cpu"), 2 << 20, march)
        flat = region.words.view(-1)
        word, alias = (int(rng.integers(flat.numel())) for _ in range(2))
        mask = 1 << (fault % 64)
        mask = mask - (1 << 64) if mask >> 63 else mask
        wrong = 0
        for _ in range(2):
            if kind == "two addresses are one":
                flat[word] = flat[alias]
            else:
                flat[word] = flat[word] & ~mask if kind == "bit stuck at 0" else flat[word] | mask
            wrong += sum(tile.total for tile in region.march())
        tally += Tally(1, int(wrong > 0), int(wrong == 0))
    return tally


# ------------------------------------------------------------------------- the tables


@dataclass
class Options:
    """The extent of the simulation."""

    flips: int = 2000
    lanes: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0), (3, 5)])
    types: tuple[str, ...] = TYPES


def unit_rows(options: Options) -> Iterator[dict[str, str]]:
    """One row per type and site."""
    rng = np.random.default_rng(0)
    for dtype in options.types:
        unit = Unit(dtype)
        for site in SITES:
            held = stuck_tally(unit, site, options.lanes)
            once = flip_tally(unit, site, options.flips, rng)
            yield {
                "type": dtype,
                "fault in": site,
                "stuck bits detected": held.shown(),
                "n": str(held.faults),
                "missed because no bit changed": f"{held.idle} of {held.faults - held.detected}",
                "single flips that change a result, all detected": once.shown(),
                "flips": str(once.faults),
            }


def toggle_rows(options: Options) -> Iterator[dict[str, str]]:
    """One row per type: the share of bits with both values in the canary and in the burn-in."""
    for dtype in options.types:
        unit = Unit(dtype)
        for name, seen in (
            ("canary", toggles(unit, products(dtype))),
            ("burn-in", burn_in_toggles(unit, 12)),
        ):
            if seen:
                shares = {site: f"{seen[site].share(size_of(unit, site)):.0%}" for site in SITES}
                yield {"type": dtype, "by": name, **shares}


def other_rows(flips: int) -> Iterator[dict[str, str]]:
    """One row per probe and fault."""
    rng = np.random.default_rng(1)
    for probe in [name for name in golden() if name != "matmul"]:
        for site in ("input", "result"):
            tally = real_tally(probe, site, flips, rng)
            yield {
                "probe": probe,
                "fault": "one number of an input changed"
                if site == "input"
                else "one bit of a result",
                "detected": tally.shown(),
                "n": str(tally.faults),
            }
    for kind in ("bit stuck at 0", "bit stuck at 1", "two addresses are one"):
        tally = memory_tally(kind, rng)
        yield {"probe": "memory", "fault": kind, "detected": tally.shown(), "n": str(tally.faults)}


def main() -> int:
    """Simulate, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flips", type=int, default=2000, help="single flips of each kind")
    parser.add_argument("--others", type=int, default=300, help="flips of each remaining probe")
    options = parser.parse_args()
    simulated = Options(options.flips)
    for title, rows in (
        ("Matrix units", unit_rows(simulated)),
        ("Toggle coverage: bits seen as both 0 and 1", toggle_rows(simulated)),
        ("Other probes", other_rows(options.others)),
    ):
        sys.stdout.write(f"{title}\n\n{to_markdown(pd.DataFrame(rows, dtype=str))}\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
