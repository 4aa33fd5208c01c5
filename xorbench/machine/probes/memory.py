"""Memory: address-dependent words that are read back, inverted in place, and copied."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xorbench.machine.probes.check import ProbeResult
from xorbench.machine.probes.exact import WrongElement, tensor_bits, wrong_elements
from xorbench.machine.probes.integers import words
from xorbench.machine.universal.golden import Checked

TILE: Final = 1 << 15  # 64-bit words, 256 KiB, which fit the cache of a processor
GROUP: Final = {"cpu": 8}
"""Tiles that are read at once; on accelerators `DEVICE_GROUP`, 64 MiB."""
DEVICE_GROUP: Final = 256
COPIED: Final = 1 << 22  # maximum words of each copy, 32 MiB
SMALL: Final = 32 << 20  # bytes of the probe
STEP: Final = 0x9E3779B97F4A7C15  # odd, so that all words of a region are different
WRAP: Final = 1 << 64
March = Callable[[Tensor, int, int], list[int]]
"""Compare the words with the pattern of one round, and write the pattern of the next to correct
tiles; returns the numbers of wrong tiles."""


class WrongWords(NamedTuple):
    """The number of wrong words after a read or copy (`transfer`), and the first of them."""

    transfer: str
    total: int
    first: list[WrongElement]

    def __str__(self) -> str:
        words = f"{self.total} words, " if self.total > 1 else ""
        return f"{words}{'; '.join(map(str, self.first))}"


def check(device: torch.device) -> ProbeResult:
    """Write, read back, invert and copy 32 MiB."""
    region = MemoryRegion(device, SMALL)
    result = ProbeResult("memory", checked=2 * region.size // 8)
    for _ in range(2):
        for wrong in [*region.march(), *region.copy()]:
            result.wrong.append(Checked(wrong.transfer, "the pattern", str(wrong)))
    return result


def pattern_key(number: int) -> int:
    """The number that is added to every word of rounds 2i and 2i + 1."""
    return int(words("memory", number // 2, 1)[0])


class MemoryRegion:
    """A region of a device's memory that is written with a pattern and read back completely.

    Word i of round 2j is `i · STEP + key(j)` modulo 2^64, and of round 2j + 1 its inverse: each bit
    stores 0 and 1, and every address has its own value.

    Raises `MemoryError` or PyTorch's out-of-memory error if memory is insufficient.
    """

    def __init__(self, device: torch.device, size: int, march: March | None = None) -> None:
        self.tiles = max(1, size // (8 * TILE))
        self.device = device
        self.words = torch.empty(self.tiles, TILE, dtype=torch.int64, device=device)
        group = min(self.tiles, GROUP.get(device.type, DEVICE_GROUP))
        self._expected, self._differs = (
            torch.empty(group, TILE, dtype=kind, device=device)
            for kind in (torch.int64, torch.bool)
        )
        self._march = march or self._by_torch
        self.number = 0
        for first in range(0, self.tiles, group):
            self._write(range(first, min(first + group, self.tiles)))

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.words.numel() * 8

    @property
    def moved(self) -> int:
        """Bytes that one march reads and writes, without those served by a processor's cache."""
        if self.device.type == "cpu":
            return 2 * self.size
        return int(
            self.size * (2 + 3 + 2 / 8)
        )  # also writing and reading the pattern, and the flags

    def march(self) -> Iterator[WrongWords]:
        """Read every word, and write the next round's pattern; yield the wrong words by tile."""
        bad = [range(i, i + 1) for i in self._march(self.words, self.number, self.number + 1)]
        for tile in bad:
            expected = self._pattern(tile).view(-1)
            yield from _wrong("memory", self.words[tile.start], expected, tile.start * TILE)
        self.number += 1
        for tile in bad:  # which were not written
            self._write(tile)

    def copy(self) -> Iterator[WrongWords]:
        """Copy a part within the device, to the host and back, also pinned and asynchronously."""
        count = min(self.tiles, COPIED // TILE)
        expected = self._pattern(range(count)).view(-1)
        inside = self.words[:count].view(-1).clone()
        yield from _wrong("copy within the device", inside, expected, 0)
        host = expected.cpu()
        for pinned in (False, True) if self.device.type != "cpu" else (False,):
            kind = "pinned, asynchronous" if pinned else "pageable"
            try:
                landed = torch.empty(host.shape, dtype=host.dtype, pin_memory=pinned)
            except RuntimeError:
                continue  # this device does not support pinned host memory
            landed.copy_(inside, non_blocking=pinned)
            _synchronize(self.device)
            yield from _wrong(f"copy to the host, {kind}", landed, host, 0)
            inside.zero_()
            inside.copy_(landed, non_blocking=pinned)
            _synchronize(self.device)
            yield from _wrong(f"copy from the host, {kind}", inside, expected, 0)

    def flip(self, element: int, bit: int) -> None:
        """Injected fault: flip one bit of one word; both indices are taken modulo their range."""
        flat, place = self.words.view(-1), element % self.words.numel()
        flat[place] = int(flat[place].item()) ^ _signed(1 << bit % 64)

    def _write(self, tiles: range) -> None:
        self.words[tiles.start : tiles.stop] = self._pattern(tiles)

    def _pattern(self, tiles: range) -> Tensor:
        """The words of these tiles in this round, [tiles, TILE]."""
        tile, firsts = self._parts(self.number)
        return tile + firsts[tiles.start : tiles.stop, None]

    def _parts(self, number: int) -> tuple[Tensor, Tensor]:
        """A tile, [TILE], and the offset of each tile, [tiles]; the words are their sums."""
        ends = (torch.arange(count, device=self.device) for count in (TILE, self.tiles))
        tile, firsts = next(ends) * _signed(STEP), next(ends) * _signed(STEP * TILE % WRAP)
        firsts += _signed(pattern_key(number))
        return (~tile, -firsts) if number % 2 else (tile, firsts)

    def _by_torch(self, held: Tensor, number: int, following: int) -> list[int]:
        """A march with PyTorch's operators, one group of tiles at a time."""
        before, after = self._parts(number), self._parts(following)
        wrong: list[int] = []
        for first in range(0, self.tiles, len(self._expected)):
            group = held[first : first + len(self._expected)]
            last = first + len(group)
            expected, differs = self._expected[: len(group)], self._differs[: len(group)]
            torch.add(before[0], before[1][first:last, None], out=expected)
            torch.ne(group, expected, out=differs)
            bad = differs.any(1)
            if bad.any().item():
                wrong += (bad.nonzero().view(-1) + first).tolist()
                correct = (~bad).nonzero().view(-1)
                group[correct] = (after[0] + after[1][first:last, None])[correct]
            else:
                torch.add(after[0], after[1][first:last, None], out=group)
        return wrong


def compiled() -> March:
    """A march for the CPU that reads and writes each word once, at the speed of the memory.

    Raises `ImportError` without Numba.
    """
    import numba

    @numba.njit(parallel=True, cache=True)
    def pass_over(held, before, before_mask, after, after_mask, wrong):  # type: ignore[no-untyped-def]
        for tile in numba.prange(held.shape[0]):
            step = np.uint64(STEP)
            first = np.uint64(tile) * np.uint64(TILE)
            bad = np.uint64(0)
            for place in range(TILE):
                word = (first + np.uint64(place)) * step + before
                bad |= held[tile, place] ^ word ^ before_mask
            wrong[tile] = bad != 0
            if bad == 0:
                for place in range(TILE):
                    word = (first + np.uint64(place)) * step + after
                    held[tile, place] = word ^ after_mask

    def march(held: Tensor, number: int, following: int) -> list[int]:
        wrong = np.zeros(len(held), dtype=np.bool_)
        patterns = [
            (np.uint64(pattern_key(i)), np.uint64(WRAP - 1 if i % 2 else 0))
            for i in (number, following)
        ]
        pass_over(held.numpy().view(np.uint64), *patterns[0], *patterns[1], wrong)
        tiles: list[int] = np.flatnonzero(wrong).tolist()
        return tiles

    march(torch.zeros(1, TILE, dtype=torch.int64), 0, 1)  # compile before the first turn
    return march


def _signed(word: int) -> int:
    """A 64-bit word as a signed integer, as PyTorch stores it."""
    return word - WRAP if word >> 63 else word


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _wrong(transfer: str, actual: Tensor, expected: Tensor, start: int) -> Iterator[WrongWords]:
    """Yield the words that differ, if any, with positions relative to `start`."""
    if not torch.equal(actual, expected):
        count, first = wrong_elements(tensor_bits(expected), tensor_bits(actual), 64)
        yield WrongWords(transfer, count, [w._replace(place=(start + w.place[0],)) for w in first])
