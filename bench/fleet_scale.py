"""Precision, recall and time of the vote of a fleet, by simulation.

N synthetic ranks on separate nodes are made from records of real runs, with injected differing,
slow, missing and wrong-key ranks. The time includes decoding, judging and the report. Prints one
row per size; the exit code is 1 for a missed or falsely reported rank.

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
EVEN: Final = 0.02  # SD of the logarithm of the healthy ranks' speeds
QUARTILES: Final = 0.02  # half of the IQR of the logarithms within a rank


class Injection(NamedTuple):
    """A kind of injected rank: the expected code, and the change to its record."""

    code: str
    alter: Callable[[Node, random.Random], Node | None]


def _differing(node: Node, draw: random.Random) -> Node:
    """Change the digests of one training from a random epoch on."""
    index = draw.randrange(len(node.trainings))
    training = node.trainings[index]
    cut = 16 * draw.randrange(len(training.epoch_digests) // 16)
    epoch_digests = training.epoch_digests[:cut] + "".join(
        draw.choices("0123456789abcdef", k=len(training.epoch_digests) - cut)
    )
    sha256 = "".join(draw.choices("0123456789abcdef", k=64))
    changed = replace(training, epoch_digests=epoch_digests, weights_sha256=sha256)
    before, after = node.trainings[:index], node.trainings[index + 1 :]
    return replace(node, trainings=[*before, changed, *after])


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
    Injection("XB103", _differing),
    Injection("XB201", _slow),
    Injection("XB106", _wrong_key),
    Injection("XB101", _wrong),
    Injection("XB302", _missing),
)


def timed(node: Node, factor: float) -> Node:
    """The record with the calibration time multiplied, and a fixed IQR."""
    calibration = node.calibration
    assert calibration is not None
    middle = calibration.median_s * factor
    even = replace(
        calibration,
        median_s=middle,
        q1_s=middle / (1 + QUARTILES),
        q3_s=middle * (1 + QUARTILES),
    )
    return replace(node, calibration=even)


def fleet(
    real: list[Node], size: int, each: int, seed: int
) -> tuple[dict[int, str], Iterator[tuple[int, bytes | None]]]:
    """The injected codes by rank, and every rank's record as bytes, None for a missing rank."""
    draw = random.Random(seed)
    chosen = draw.sample(range(size), each * len(INJECTIONS))
    injected = {rank: INJECTIONS[i % len(INJECTIONS)] for i, rank in enumerate(chosen)}

    def records() -> Iterator[tuple[int, bytes | None]]:
        for rank in range(size):
            node = replace(real[rank % len(real)], rank=rank, world=size, node=f"node{rank:06}")
            even = timed(node, draw.lognormvariate(0, EVEN))
            altered = injected[rank].alter(even, draw) if rank in injected else even
            yield rank, None if altered is None else msgspec.json.encode(altered)

    return {rank: injection.code for rank, injection in injected.items()}, records()


class Judged(NamedTuple):
    """The result of one fleet; precision and recall over ranks with a finding above `note`."""

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
        findings = [f for f in read_fleet(Path(folder)).findings if f.severity != "note"]
    reported = {f.rank for f in findings}
    correct = reported & injected.keys()
    pairs = {(f.rank, f.code) for f in findings}
    named = sum((rank, code) in pairs for rank, code in injected.items()) / len(injected)
    return Judged(wall_s, len(correct) / len(reported), len(correct) / len(injected), named)


def main() -> int:
    """Read the real runs, judge a fleet of each size, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--each", type=int, default=20, help="injected ranks of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow-threshold", type=float, default=1.1)
    options = parser.parse_args()
    read = [gather.read(folder) for folder in gather.run_folders(options.folder)[0]]
    real = [node for nodes in read if not isinstance(nodes, Bad) for node in nodes]
    print("| ranks | injected | precision | recall | correct code | seconds | peak (MB) |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    failed = False
    for size in map(int, options.sizes.split(",")):
        judged = judge(real, size, options.each, options.seed, options.slow_threshold)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
        shares = f"{judged.precision:.3f} | {judged.recall:.3f} | {judged.named:.3f}"
        injected, wall_s = options.each * len(INJECTIONS), judged.wall_s
        print(f"| {size:,} | {injected} | {shares} | {wall_s:.1f} | {peak:,.0f} |", flush=True)
        failed |= (judged.precision, judged.recall, judged.named) != (1.0, 1.0, 1.0)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
