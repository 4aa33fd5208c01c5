"""The vote of the ranks at scale, by simulation: are all odd ones found, no other, and how fast?

From the records of real runs, N synthetic ranks, each a node of its own, with injected odd, slow,
missing and wrong-key ones. The records come as bytes, as from the store: decoding them, judging and
the report are in the time. Prints a row a size; exit 1 where a rank was missed or wrongly accused.

    python bench/fleet_scale.py RUN_FOLDER --sizes 1000,10000,100000
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from xorbench.fleet import gather
from xorbench.fleet.fleet import FleetReferences, conclude, read_fleet
from xorbench.fleet.records import Bad, Missing, Node, Wrong, decode

replace = msgspec.structs.replace
EVEN: Final = 0.02  # deviation of the sound ranks' speeds, as a logarithm
QUARTILES: Final = 0.02  # half of a rank's own quartile distance, likewise


class Injection(NamedTuple):
    """A kind of odd rank: the code it must be found by, what is done to its record."""

    code: str
    alter: Callable[[Node, random.Random], Node | None]


def _odd(node: Node, draw: random.Random) -> Node:
    """A bit flips in some epoch of one training; those of later epochs are others too."""
    at = draw.randrange(len(node.trainings))
    one = node.trainings[at]
    cut = 16 * draw.randrange(len(one.epoch_digests) // 16)
    epoch_digests = one.epoch_digests[:cut] + "".join(
        draw.choices("0123456789abcdef", k=len(one.epoch_digests) - cut)
    )
    sha256 = "".join(draw.choices("0123456789abcdef", k=64))
    changed = replace(one, epoch_digests=epoch_digests, weights_sha256=sha256)
    return replace(node, trainings=[*node.trainings[:at], changed, *node.trainings[at + 1 :]])


def _slow(node: Node, draw: random.Random) -> Node:
    return timed(node, draw.uniform(1.3, 4.0))


def _wrong_key(node: Node, draw: random.Random) -> Node:
    field, value = draw.choice([("torch_version", "2.6.0"), ("cpu_capability", "AVX2")])
    return replace(node, key={**node.key, field: value})


def _wrong(node: Node, draw: random.Random) -> Node:
    epoch = draw.randrange(1, 101)
    return replace(
        node, universal=[Wrong(what=f"epoch digests, epoch {epoch}", expected="a", actual="b")]
    )


def _missing(_node: Node, _draw: random.Random) -> None:
    return None


INJECTIONS: Final = (
    Injection("XB103", _odd),
    Injection("XB201", _slow),
    Injection("XB106", _wrong_key),
    Injection("XB101", _wrong),
    Injection("XB302", _missing),
)


def timed(node: Node, factor: float) -> Node:
    """The record with its calibration workload slower by a factor, and even within itself."""
    one = node.calibration
    assert one is not None
    middle = one.median_s * factor
    even = replace(
        one,
        median_s=middle,
        q1_s=middle / (1 + QUARTILES),
        q3_s=middle * (1 + QUARTILES),
    )
    return replace(node, calibration=even)


def fleet(
    real: list[Node], size: int, each: int, seed: int
) -> tuple[dict[int, str], Iterator[tuple[int, bytes | None]]]:
    """What is injected, by rank, and every rank's record as bytes; None of a missing one."""
    draw = random.Random(seed)
    chosen = draw.sample(range(size), each * len(INJECTIONS))
    injected = {rank: INJECTIONS[at % len(INJECTIONS)] for at, rank in enumerate(chosen)}

    def records() -> Iterator[tuple[int, bytes | None]]:
        for rank in range(size):
            node = replace(real[rank % len(real)], rank=rank, world=size, node=f"node{rank:06}")
            even = timed(node, draw.lognormvariate(0, EVEN))
            altered = injected[rank].alter(even, draw) if rank in injected else even
            yield rank, None if altered is None else msgspec.json.encode(altered)

    return {rank: injection.code for rank, injection in injected.items()}, records()


class Judged(NamedTuple):
    """What one fleet came to; precision and recall over ranks with a finding that is no note."""

    wall_s: float
    precision: float
    recall: float
    named: float


def judge(real: list[Node], size: int, each: int, seed: int, threshold: float) -> Judged:
    """Decode, judge and report a synthetic fleet; compare the findings with the injections."""
    injected, records = fleet(real, size, each, seed)
    sent = list(records)
    references = FleetReferences("bench/fleet_scale.py", threshold)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        nodes, missing, bad = [], [], []
        for rank, content in sent:
            if content is None:
                missing.append(Missing(rank=rank, node=f"node{rank:06}", why="none", came=True))
                continue
            read = decode(content, Node)
            if isinstance(read, str):
                bad.append(Bad(sender=f"rank {rank}", rank=rank, reason=read))
            else:
                nodes.append(read)
        conclude(Path(folder), references, nodes, missing, bad, [])
        wall_s = time.perf_counter() - start
        found = [f for f in read_fleet(Path(folder)).findings if f.severity != "note"]
    accused = {f.rank for f in found}
    right = accused & injected.keys()
    pairs = {(f.rank, f.code) for f in found}
    named = sum((rank, code) in pairs for rank, code in injected.items()) / len(injected)
    return Judged(wall_s, len(right) / len(accused), len(right) / len(injected), named)


def main() -> int:
    """Read the real runs, judge a fleet of each size, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--each", type=int, default=20, help="injected ranks of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow-threshold", type=float, default=1.1)
    asked = parser.parse_args()
    read = [gather.read(folder) for folder in gather.run_folders(asked.folder)[0]]
    real = [node for nodes in read if not isinstance(nodes, Bad) for node in nodes]
    print("| ranks | injected | precision | recall | by the right code | seconds | peak (MB) |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    failed = False
    for size in map(int, asked.sizes.split(",")):
        one = judge(real, size, asked.each, asked.seed, asked.slow_threshold)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
        shares = f"{one.precision:.3f} | {one.recall:.3f} | {one.named:.3f}"
        injected = asked.each * len(INJECTIONS)
        print(f"| {size:,} | {injected} | {shares} | {one.wall_s:.1f} | {peak:,.0f} |", flush=True)
        failed |= (one.precision, one.recall, one.named) != (1.0, 1.0, 1.0)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
