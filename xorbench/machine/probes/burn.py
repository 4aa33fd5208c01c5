"""The burn-in of one device: probes in turn, with every element of every result verified."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch

from xorbench.machine.probes.check import check, lacks, one_line
from xorbench.machine.probes.exact import WrongElement
from xorbench.machine.probes.memory import March, MemoryRegion, compiled
from xorbench.machine.probes.product import Products
from xorbench.machine.probes.table import exact_probes
from xorbench.machine.universal import golden, spec
from xorbench.machine.universal.backends import BACKENDS
from xorbench.machine.universal.spec import UniversalRecipe

TYPES: Final = ("float32", "float64", "bfloat16", "float16", "int8", "tf32")
SIZES: Final = {"cpu": (4096, 2048, 1024, 512)}
"""Rows of the products, largest first; the largest that fits time and memory is used."""
DEVICE_SIZES: Final = (8192, *SIZES["cpu"])
SMALL: Final = 256  # rows of products that fit a cache: a thousand results per second
TIMED: Final = 512  # rows of the products that measure the speed of a type
TIMED_S: Final = 0.1  # minimum time, since a unit's first products can be ten times slower
TURN_S: Final = 2.0  # maximum time of a turn of products, which uses one pair of factors
SLOWER: Final = 4.0  # a type this much slower than float32 is skipped: it has no hardware unit
MODELS: Final = {"cpu": 64}
DEVICE_MODELS: Final = 4096
MEMORY_SHARE: Final = {"cpu": 0.25}
DEVICE_MEMORY_SHARE: Final = 0.75
MEMORY_PER_S: Final = 64 << 20  # bytes of memory per second of burn-in, so that all is covered
NAMED: Final = 3  # wrong elements that one turn describes; all are counted


Allocated = TypeVar("Allocated")


class TooMuchMemory(Exception):
    """More memory was requested than is free; the message has both sizes."""


class WrongResult(NamedTuple):
    """The report of a wrong result: time, description, values, and whether it was reproduced."""

    time: str
    what: str
    element: str = ""
    expected: str = ""
    actual: str = ""
    flipped: Sequence[int] = ()
    again: bool | None = None


class Turn(NamedTuple):
    """The result of one turn of a unit.

    Attributes:
        unit: the unit, such as `matmul float32 4096`.
        round: number of the unit's turn, from 0.
        seconds: duration, including verification.
        work: floating-point operations, or bytes read and written, according to `measure`.
        results: number of verified results; of memory, number of words.
        mismatches: number of wrong results; `wrong` holds the first of them.
    """

    unit: str
    round: int
    seconds: float
    work: float
    measure: str
    results: int
    mismatches: int
    wrong: list[WrongResult]


class Unit:
    """One part of a device under load."""

    def __init__(self, name: str) -> None:
        self.name = name

    def turn(self, number: int) -> Turn:
        """Do some work and verify all of its results."""
        raise NotImplementedError

    def _turn(
        self,
        number: int,
        started: float,
        results: int,
        wrong: list[WrongResult],
        *,
        mismatches: int | None = None,
        work: float = 0.0,
        measure: str = "",
    ) -> Turn:
        """The turn that ends now; `mismatches` defaults to the length of `wrong`."""
        seconds = time.perf_counter() - started
        count = len(wrong) if mismatches is None else mismatches
        return Turn(self.name, number, seconds, work, measure, results, count, wrong[:NAMED])


def _wrong(what: str, **details: Any) -> WrongResult:
    return WrongResult(datetime.now(UTC).isoformat(timespec="seconds"), what, **details)


def _wrong_element(what: str, element: WrongElement, again: bool | None = None) -> WrongResult:
    return _wrong(
        what,
        element=str(list(element.place)),
        expected=element.hex(element.expected),
        actual=element.hex(element.actual),
        flipped=element.flipped(),
        again=again,
    )


class ProductUnit(Unit):
    """Products of one type and size."""

    def __init__(self, products: Products, count: int, seconds: float) -> None:
        super().__init__(f"matmul {products.dtype} {products.size}")
        self._products, self._count, self._seconds = products, count, seconds

    def turn(self, number: int) -> Turn:
        """Compute some products, and verify that a flipped bit is detected."""
        started = time.perf_counter()
        with one_thread() if self._products.size == SMALL else nullcontext():
            done = self._products.round(number, self._count, self._seconds)
        wrong = [
            _wrong_element(f"{done.kind} product {product}", element, again)
            for product, element, again in done.wrong
        ]
        mismatches = done.mismatches
        if blind := self._products.blind(number):
            wrong.insert(0, _wrong(blind))
            mismatches += 1
        work = 2.0 * self._products.size**3 * done.products
        return self._turn(
            number, started, done.products, wrong, mismatches=mismatches, work=work, measure="FLOP"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one CPU thread, since synchronizing several takes longer than small products."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class MemoryUnit(Unit):
    """A region of memory; `flip` is an injected fault: round, element, bit."""

    def __init__(self, region: MemoryRegion, flip: Sequence[int] | None) -> None:
        super().__init__("memory")
        self._region, self._flip = region, flip

    def turn(self, number: int) -> Turn:
        """Read the pattern, write the next one, and copy a part."""
        if self._flip and self._flip[0] == number:
            self._region.flip(*self._flip[1:])
        started = time.perf_counter()
        groups = list(self._region.march())
        seconds = time.perf_counter() - started  # without the copies, which are slower
        groups += self._region.copy()
        wrong = [
            _wrong_element(group.transfer, element) for group in groups for element in group.first
        ]
        words, mismatches = self._region.size // 8, sum(group.total for group in groups)
        turn = self._turn(
            number,
            started,
            words,
            wrong,
            mismatches=mismatches,
            work=self._region.moved,
            measure="B",
        )
        return turn._replace(seconds=seconds)


class TrainingUnit(Unit):
    """Ensembles of the universal training, with each model compared with its golden digest.

    `flip` is an injected fault: round, model, and the bit of its last weight.
    """

    def __init__(self, device: str, flip: Sequence[int] | None) -> None:
        super().__init__("training")
        self._train = BACKENDS["torch"].load(device).train
        self._flip = flip
        count = MODELS.get(device.partition(":")[0], DEVICE_MODELS)
        golden_answers = golden.load().answers[UniversalRecipe()]
        self._answers = list(islice(cycle(golden_answers), count))

    def turn(self, number: int) -> Turn:
        """Train one ensemble of repeated golden seeds."""
        started = time.perf_counter()
        seeds = [answer.seed for answer in self._answers]
        weights = self._train(UniversalRecipe(), seeds).weights.copy()
        if self._flip and self._flip[0] == number:
            model, bit = self._flip[1:]
            weights.view(np.uint32)[model % len(weights), -1] ^= np.uint32(1 << bit % 32)
        wrong = [
            _wrong(f"model {model}, seed {answer.seed}", expected=answer.sha256, actual=digest)
            for model, (answer, digest) in enumerate(
                zip(self._answers, spec.digests(weights), strict=True)
            )
            if digest != answer.sha256
        ]
        return self._turn(number, started, len(seeds), wrong)


class SmallUnit(Unit):
    """A probe at the sizes of the canary."""

    def __init__(self, probe: str, device: str) -> None:
        super().__init__(probe)
        self._device = device

    def turn(self, number: int) -> Turn:
        """Check every case of the probe."""
        started = time.perf_counter()
        result = check(self.name, self._device)
        wrong = [_wrong(row.what, expected=row.expected, actual=row.actual) for row in result.wrong]
        return self._turn(number, started, result.checked, wrong)


class DeviceBurnIn:
    """The units of one device, which take turns.

    Attributes:
        notes: skipped or reduced parts, with the reason.
    """

    def __init__(
        self,
        device: str,
        probes: Sequence[str],
        seconds: float,
        memory: int | None,
        flips: dict[str, Sequence[int]],
    ) -> None:
        self._device = torch.device(device)
        self.notes: list[str] = []
        self.units: list[Unit] = []
        if "matmul" in probes:
            self.units += self._products(seconds / 3)
        if "memory" in probes:
            self.units += self._memory(seconds, memory, flips.get("flip-memory"))
        if "training" in probes:
            self.units.append(TrainingUnit(device, flips.get("flip-model")))
        small = set(exact_probes()) - {"matmul", "memory"}
        self.units += [SmallUnit(probe, device) for probe in probes if probe in small]
        self._numbers = dict.fromkeys((unit.name for unit in self.units), 0)
        self._next = 0

    def run(self, seconds: float) -> Iterator[Turn]:
        """Yield turns until the time is up, at least one."""
        end = time.monotonic() + seconds
        while True:
            unit = self.units[self._next % len(self.units)]
            self._next += 1
            number = self._numbers[unit.name]
            self._numbers[unit.name] = number + 1
            yield unit.turn(number)
            if time.monotonic() >= end:
                return

    def _products(self, seconds: float) -> Iterator[Unit]:
        """A large and a small product of each type that has a hardware unit."""
        times = dict(self.times())
        usable = [dtype for dtype in times if times[dtype] <= SLOWER * times["float32"]]
        for dtype in times.keys() - set(usable):
            ratio = times[dtype] / times["float32"]
            self.notes.append(f"{dtype}: {ratio:.0f} times slower than float32, skipped")
        share = seconds / max(1, len(usable))
        for dtype in usable:
            yield from self._large(dtype, times[dtype], share)
            yield self._unit(dtype, SMALL, 8, min(TURN_S, seconds / 8))

    def times(self) -> Iterator[tuple[str, float]]:
        """Seconds of a small product of each type that the device supports."""
        for dtype in TYPES:
            if dtype == "tf32" and self._device.type != "cuda":
                continue
            try:
                products = Products(dtype, TIMED, self._device)
                yield dtype, quickest(products)
            except (RuntimeError, TypeError) as error:
                if not lacks(error):
                    raise
                self.notes.append(f"{dtype}: {one_line(error)}")

    def _large(self, dtype: str, small_s: float, seconds: float) -> Iterator[Unit]:
        for size in SIZES.get(self._device.type, DEVICE_SIZES):
            once_s = small_s * (size / TIMED) ** 3
            if 4 * once_s > max(seconds, 0.1) or size == SMALL:
                continue
            if Products.bytes_for(dtype, size) > free_bytes(self._device) / 2:
                self.notes.append(f"{dtype}: products of {size} rows do not fit the free memory")
                continue
            make = partial(self._unit, dtype, size, 4, min(TURN_S, seconds / 4))
            if unit := self._tried(make, f"{dtype}: out of memory at {size} rows"):
                yield unit
                return

    def _unit(self, dtype: str, size: int, count: int, seconds: float) -> ProductUnit:
        products = Products(dtype, size, self._device)
        if products.rounds_partial_sums():
            products.kinds.remove("dense")
            self.notes.append(
                f"{dtype}, {size} rows: partial sums are stored in {products.result}, so dense"
                " products are skipped"
            )
        return ProductUnit(products, count, seconds)

    def _memory(
        self, seconds: float, size: int | None, flip: Sequence[int] | None
    ) -> Iterator[Unit]:
        free = free_bytes(self._device)
        share = MEMORY_SHARE.get(self._device.type, DEVICE_MEMORY_SHARE)
        if size is None:
            size = int(min(free * share, max(8, seconds) * MEMORY_PER_S))
        if size > free:
            raise TooMuchMemory(f"{size:,} bytes requested, {free:,} are free")
        while size >= 1 << 20:
            make = partial(MemoryRegion, self._device, size, self._march())
            if region := self._tried(make, f"out of memory at {size:,} bytes"):
                yield MemoryUnit(region, flip)
                return
            size //= 2

    def _tried(self, make: Callable[[], Allocated], note: str) -> Allocated | None:
        """Allocate a part of the burn-in; None and a note if memory is insufficient."""
        try:
            return make()
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.notes.append(note)
            return None

    def _march(self) -> March | None:
        if self._device.type == "cpu":
            with suppress(ImportError):
                return compiled()
        return None


def quickest(products: Products) -> float:
    """Seconds of the quickest of at least three products, each synchronized."""
    end = time.perf_counter() + TIMED_S
    times: list[float] = []
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        products.bare(1)
        products.settle()
        times.append(time.perf_counter() - started)
    return min(times)


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that the device or the host is out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory")
    )


def free_bytes(device: torch.device) -> int:
    """Free bytes of a device's memory; for the CPU, available bytes of the host."""
    if device.type == "cpu":
        return _available()
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with suppress(Exception):  # not every accelerator reports it
        return int(torch.accelerator.get_memory_info(device)[0])
    return 1 << 30


def _available() -> int:
    """Available bytes as reported by Linux; half of the memory on a different system."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
