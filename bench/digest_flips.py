"""How many random bit flips the digest of the recorder misses, and how fast it is.

    python bench/digest_flips.py --flips 1000000 --seed 0

Each flip turns one bit, or two, of a tensor of random bytes: of one chunk mostly, of several at
times. A flip is unseen if the digest is that of the original, and collides if it is that of another
flip. The speed is that of one thread for float32.
"""

import argparse
import random
import statistics
import time
from typing import Final, NamedTuple

import numpy as np
import torch

from xorbench.recorder.fingerprint import Digester

SIZES: Final = (300, 300, 1_021, 3 * 131_072 + 7)  # bytes; the last has four chunks
LARGE_EVERY: Final = 100  # one flip in so many is one of the large tensor
BATCH: Final = 500  # digests that are fetched at once


class Flips(NamedTuple):
    """How many flips were made, not seen, and equal to another flip."""

    flips: int
    unseen: int
    collisions: int


def flipped(count: int, seed: int) -> Flips:
    """Flip bits `count` times and compare the digests."""
    source = random.Random(seed)
    bits = [np.frombuffer(source.randbytes(size), np.uint8).copy() for size in SIZES]
    tensors = [torch.from_numpy(some) for some in bits]
    digester = Digester()
    originals = digester.finish([digester.start(tensor) for tensor in tensors])
    seen: list[dict[str, tuple[int, ...]]] = [{} for _ in SIZES]
    unseen = collisions = 0
    for first in range(0, count, BATCH):
        which, places, parts = [], [], []
        for number in range(first, min(first + BATCH, count)):
            index = 3 if number % LARGE_EVERY == 0 else source.randrange(3)
            turned = source.sample(range(8 * SIZES[index]), source.choice((1, 2)))
            for place in turned:
                bits[index][place >> 3] ^= 1 << (place & 7)
            parts.append(digester.start(tensors[index]))
            for place in turned:
                bits[index][place >> 3] ^= 1 << (place & 7)
            which.append(index)
            places.append(tuple(sorted(turned)))
        for index, place, digest in zip(which, places, digester.finish(parts), strict=True):
            unseen += digest == originals[index]
            collisions += seen[index].setdefault(digest, place) != place
    return Flips(count, unseen, collisions)


def speed(megabytes: float, repeats: int) -> list[float]:
    """Gigabytes a second of each of several digests of a tensor of this size."""
    digester = Digester()
    tensor = torch.randn(int(megabytes * 1e6 / 4))
    digester.finish([digester.start(tensor)])
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        digester.finish([digester.start(tensor)])
        found.append(tensor.nbytes / (time.perf_counter() - began) / 1e9)
    return found


def main() -> None:
    """Flip, count, and time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flips", type=int, default=1_000_000, help="how many [1000000]")
    parser.add_argument("--seed", type=int, default=0, help="of the flips [0]")
    parser.add_argument("--digests", type=int, default=30, help="timed ones of each size [30]")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    found = flipped(given.flips, given.seed)
    took = time.perf_counter() - began
    print(
        f"{found.flips} flips of one or two bits, seed {given.seed}: {found.unseen} unseen,"
        f" {found.collisions} collisions, {took:.0f} s"
    )
    print("\n| tensor (MB) | GB/s, median | slowest | fastest | digests |\n|---|---|---|---|---|")
    for megabytes in (0.1, 1.0, 10.0, 100.0):
        rates = speed(megabytes, given.digests)
        print(
            f"| {megabytes:g} | {statistics.median(rates):.2f} | {min(rates):.2f} |"
            f" {max(rates):.2f} | {len(rates)} |"
        )


if __name__ == "__main__":
    main()
