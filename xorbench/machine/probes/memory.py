"""Memory: words that depend on their address, read back, inverted in place, and copied about."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xorbench.machine.probes.check import ProbeResult
from xorbench.machine.probes.exact import WrongElement, tensor_bits, wrong_elements
from xorbench.machine.probes.integers import words
from xorbench.machine.universal.golden import Checked

TILE: Final = 1 << 15  # 64-bit words, 256 KiB: a processor keeps them in its cache
GROUP: Final = {"cpu": 8}
"""Tiles that are read at once; on accelerators `DEVICE_GROUP`, 64 MiB."""
DEVICE_GROUP: Final = 256
COPIED: Final = 1 << 22  # words of each copy, 32 MiB, or as many as there are
SMALL: Final = 32 << 20  # bytes of the probe
STEP: Final = 0x9E3779B97F4A7C15  # odd, so that no two words of a region are equal
WRAP: Final = 1 << 64
March = Callable[[Tensor, int, int], list[int]]
"""Compare the words with one round's pattern and write the next one's, in the tiles that are right;
the numbers of the tiles that are not."""


class WrongWords(NamedTuple):
    """Words of memory that did not come back, the first by name; `way` is where they went."""

    way: str
    wrongs: int
    first: list[WrongElement]

    def __str__(self) -> str:
        count = f"{self.wrongs} words, " if self.wrongs > 1 else ""
        return f"{count}{'; '.join(map(str, self.first))}"


def check(device: torch.device) -> ProbeResult:
    """32 MiB written, read back, inverted, and copied about."""
    region = MemoryRegion(device, SMALL)
    result = ProbeResult("memory", checked=2 * region.size // 8)
    for _ in range(2):
        for wrong in [*region.march(), *region.copy()]:
            result.wrong.append(Checked(wrong.way, "the pattern", str(wrong)))
    return result


def pattern_key(number: int) -> int:
    """What is added to every word of rounds 2i and 2i + 1."""
    return int(words("memory", number // 2, 1)[0])


class MemoryRegion:
    """A part of a device's memory that is written with a pattern and read back, every word of it.

    Word i of round 2j is `i · STEP + key(j)` modulo 2^64, that of round 2j + 1 its inverse: each
    bit is held as 0 and as 1, and no address can be taken for another one.

    Raises `MemoryError` or PyTorch's out-of-memory error where the device has not enough.
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
        """Bytes."""
        return self.words.numel() * 8

    @property
    def moved(self) -> int:
        """Bytes that one march reads and writes; what stays in a processor's cache is left out."""
        if self.device.type == "cpu":
            return 2 * self.size
        return int(self.size * (2 + 3 + 2 / 8))  # the pattern made, read, and the flags besides

    def march(self) -> Iterator[WrongWords]:
        """Read every word, and write the next round's pattern; yields the wrong words by tile."""
        bad = [range(i, i + 1) for i in self._march(self.words, self.number, self.number + 1)]
        for tile in bad:
            right = self._pattern(tile).view(-1)
            yield from _wrong("memory", self.words[tile.start], right, tile.start * TILE)
        self.number += 1
        for tile in bad:  # that were left as they were found
            self._write(tile)

    def copy(self) -> Iterator[WrongWords]:
        """Copy a part within the device, to the host and back; pinned and in the background too."""
        count = min(self.tiles, COPIED // TILE)
        right = self._pattern(range(count)).view(-1)
        inside = self.words[:count].view(-1).clone()
        yield from _wrong("copy within the device", inside, right, 0)
        host = right.cpu()
        for pinned in (False, True) if self.device.type != "cpu" else (False,):
            kind = "pinned, in the background" if pinned else "pageable"
            try:
                landed = torch.empty(host.shape, dtype=host.dtype, pin_memory=pinned)
            except RuntimeError:
                continue  # this device cannot pin the host's memory
            landed.copy_(inside, non_blocking=pinned)
            _synchronize(self.device)
            yield from _wrong(f"copy to the host, {kind}", landed, host, 0)
            inside.zero_()
            inside.copy_(landed, non_blocking=pinned)
            _synchronize(self.device)
            yield from _wrong(f"copy from the host, {kind}", inside, right, 0)

    def flip(self, element: int, bit: int) -> None:
        """Injected fault: flip one bit of one word; both count modulo their number."""
        flat, place = self.words.view(-1), element % self.words.numel()
        flat[place] = int(flat[place].item()) ^ _signed(1 << bit % 64)

    def _write(self, tiles: range) -> None:
        self.words[tiles.start : tiles.stop] = self._pattern(tiles)

    def _pattern(self, tiles: range) -> Tensor:
        """The words of these tiles in this round, [tiles, TILE]."""
        tile, firsts = self._parts(self.number)
        return tile + firsts[tiles.start : tiles.stop, None]

    def _parts(self, number: int) -> tuple[Tensor, Tensor]:
        """A tile, [TILE], and what is added in each tile, [tiles]: their sums are the words."""
        ends = (torch.arange(count, device=self.device) for count in (TILE, self.tiles))
        tile, firsts = next(ends) * _signed(STEP), next(ends) * _signed(STEP * TILE % WRAP)
        firsts += _signed(pattern_key(number))
        return (~tile, -firsts) if number % 2 else (tile, firsts)

    def _by_torch(self, held: Tensor, number: int, following: int) -> list[int]:
        """By PyTorch's operators, a group of tiles at a time."""
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
                right = (~bad).nonzero().view(-1)
                group[right] = (after[0] + after[1][first:last, None])[right]
            else:
                torch.add(after[0], after[1][first:last, None], out=group)
        return wrong


def compiled() -> March:
    """A march for the CPU that reads and writes each word once: as fast as its memory is.

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

    march(torch.zeros(1, TILE, dtype=torch.int64), 0, 1)  # compiled now, not in the first turn
    return march


def _signed(word: int) -> int:
    """A 64-bit word as PyTorch holds it."""
    return word - WRAP if word >> 63 else word


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _wrong(way: str, actual: Tensor, right: Tensor, start: int) -> Iterator[WrongWords]:
    """The words that differ, named by their place from `start`; nothing where none does."""
    if not torch.equal(actual, right):
        wrongs, first = wrong_elements(tensor_bits(right), tensor_bits(actual), 64)
        yield WrongWords(way, wrongs, [w._replace(place=(start + w.place[0],)) for w in first])
