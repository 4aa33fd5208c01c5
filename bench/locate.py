"""Inject 1,000 random single-bit faults and 200 structural ones, and see each located.

    python bench/locate.py --seconds 150 --to locate.jsonl

Each fault is at a random moment of a training of three epochs (57 steps), injected by the number of
the fault alone. Twice it is looked for: between two step traces, written to files and compared by
`diff`; and between two runs, by their epoch digests and, where those differ, by training both
again. A single bit must be found at its step, tensor, element and bit; a structural fault at its
step and tensor. A fault that leaves all epoch digests equal was absorbed. Everything happens in
this process.

It stops after so many seconds, goes on where the file ends, and then prints the table. Exit code 1
if any was not found where it was injected.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch

from xorbench.process.operations import OPERATIONS, Session
from xorbench.programs.elements import Difference
from xorbench.records import trace as traces
from xorbench.records.trace import CaseTrace, EpochTrace, TracedTraining
from xorbench.report.text import to_markdown
from xorbench.runtime.slots import ProcessSlot
from xorbench.stats.intervals import wilson
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.faults import FaultSpec, read_fault
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.trace import retrain
from xorbench.xor.trace.diff import diff
from xorbench.xor.trace.divergence import TracePlace, element, first_epoch, first_place

CASE: Final = Case()
RECIPE: Final = Recipe(epochs=3)
STEPS: Final = RECIPE.train_size // CASE.batch_size
WEIGHTS: Final = {"layer1.weight": 8, "layer1.bias": 4, "layer2.weight": 4, "layer2.bias": 1}
ACTIVATIONS: Final = {
    "the output of module act_fn Tanh": 4 * CASE.batch_size,
    "the output of module layer2 Linear": CASE.batch_size,
}
INPUTS: Final = {"the batch (input [0] of SimpleClassifier, call 0)": 2 * CASE.batch_size}
SINGLE_BITS: Final = 1_000
STRUCTURES: Final = (
    "skip-batch", "repeat-batch", "swap-batches", "flip-label", "keep-gradients", "other-lr",
    "draw-extra",
)  # fmt: skip
INJECTED: Final = SINGLE_BITS + 200


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault as it is injected, and where it must be found; no tensor where a step is lacking."""

    kind: str
    fault: str
    epoch: int
    step: int
    tensor: str | None
    element: int | None = None
    bit: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one fault: whether each search ended at exactly its place."""

    number: int
    kind: str
    fault: str
    by_traces: bool
    changed: bool
    by_runs: bool | None
    said: str


class LocalSlot(ProcessSlot):
    """The operations of a training process, in this one: no fault costs a start."""

    def ask(self, op: str, **args: Any) -> dict[str, Any]:
        """Answer as another process would, in what its JSON would hold."""
        answer: dict[str, Any] = json.loads(json.dumps(OPERATIONS[op](SESSION, **args)))
        return answer


SESSION: Final = Session()
SLOT: Final = LocalSlot("p0", ProcessConfig(), 0)


def drawn(number: int) -> Injection:
    """The fault of this number."""
    draw = random.Random(number)
    if number < SINGLE_BITS:
        return _bit(draw)
    return _structure(draw, STRUCTURES[number % len(STRUCTURES)])


def _bit(draw: random.Random) -> Injection:
    place = draw.choice(("weight", "gradient", "activation", "batch"))
    sizes = {"activation": ACTIVATIONS, "batch": INPUTS}.get(place, WEIGHTS)
    tensor = draw.randrange(len(sizes))
    name, size = list(sizes.items())[tensor]
    epoch, step = draw.randrange(RECIPE.epochs), draw.randrange(STEPS)
    element, bit = draw.randrange(size), draw.randrange(32)
    fault = f"flip-{place}:epoch={epoch},step={step},tensor={tensor},element={element},bit={bit}"
    seen = {"gradient": f"gradient {name}", "weight": f"parameter {name}"}.get(place, name)
    return Injection(f"a bit of {place}", fault, epoch, step, seen, element, bit)


def _structure(draw: random.Random, kind: str) -> Injection:
    """One at a moment at which it is one: no gradient is kept before there is any."""
    epoch, step = draw.randrange(RECIPE.epochs), draw.randrange(1, STEPS - 1)
    element = draw.randrange(CASE.batch_size)
    seen: dict[str, tuple[int, str]] = {
        "skip-batch": (step, "the order"),
        "repeat-batch": (step + 1, "the order"),
        "swap-batches": (step, "the order"),
        "flip-label": (step, "the labels"),
        "keep-gradients": (step, "gradient layer1.weight"),
        "other-lr": (step, "the hyperparameters of optimizer 0 (SGD)"),
        "draw-extra": (0, "the order"),
    }
    return Injection(
        kind, f"{kind}:epoch={epoch},step={step},element={element}", epoch, *seen[kind]
    )


def by_traces(injection: Injection, folder: Path) -> bool:
    """Whether `diff` of two files of traces ends at the place."""
    valued = range(injection.step, injection.step + 1)
    paths = (folder / "a.trace", folder / "b.trace")
    for path, faults in zip(paths, ([], [read_fault(injection.fault)]), strict=True):
        traces.write(path, _trace(faults, valued))
    found, _ = diff(str(paths[0]), str(paths[1]), folder)
    return _is_at(injection, found.place, found.difference)


def _trace(faults: list[FaultSpec], valued: range) -> CaseTrace:
    opened = retrain.opened(SLOT, CASE, RECIPE, faults, recorded=True)
    epochs = {n: opened.record(n, valued) for n in range(RECIPE.epochs)}
    SLOT.ask("close", training=opened.handle)
    training = TracedTraining(
        xorbench_version="",
        case=CASE,
        config=ProcessConfig(),
        recipe=RECIPE,
        faults=[],
        inputs_sha256=opened.inputs_sha256,
    )
    return CaseTrace(traces.case_head(training, {}), training, epochs)


def by_runs(injection: Injection) -> bool | None:
    """Whether epoch digests and retraining end at the place; None where the digests are equal."""
    faults = [read_fault(injection.fault)]
    clean, faulty = epoch_digests(), _epoch_digests(faults)
    epoch = first_epoch(clean, faulty)
    if epoch is None:
        return None
    first = first_place(_retrained([], clean, epoch), _retrained(faults, faulty, epoch))
    if first is None or first[0].tensor is None:
        return _is_at(injection, None if first is None else first[0], None)
    return _is_at(injection, first[0], element(first[1]))


@cache
def epoch_digests() -> dict[int, str]:
    """The digests of the sound training by epoch."""
    return _epoch_digests([])


def _epoch_digests(faults: list[FaultSpec]) -> dict[int, str]:
    opened = retrain.opened(SLOT, CASE, RECIPE, faults)
    digests = {epoch: opened.step() for epoch in range(RECIPE.epochs)}
    SLOT.ask("close", training=opened.handle)
    return digests


def _retrained(faults: list[FaultSpec], digests: dict[int, str], epoch: int) -> EpochTrace:
    opened = retrain.opened(SLOT, CASE, RECIPE, faults, recorded=True)
    replayed = retrain.replay(opened, digests, epoch)
    SLOT.ask("close", training=opened.handle)
    if replayed.trace is None:
        sys.exit(f"a retraining does not repeat its epoch digests at epoch {replayed.epoch}")
    return replayed.trace


def _is_at(injection: Injection, place: TracePlace | None, difference: Difference | None) -> bool:
    if place != TracePlace(injection.epoch, injection.step, injection.tensor):
        return False
    return injection.bit is None or _is_bit(injection, difference)


def _is_bit(injection: Injection, difference: Difference | None) -> bool:
    """Whether this element alone differs, and by this bit alone."""
    if difference is None or difference.first is None or difference.differing != 1:
        return False
    at = 0
    for index, size in zip(difference.first.index, difference.a.shape, strict=True):
        at = at * size + index
    flipped = int(difference.first.a_bits, 16) ^ int(difference.first.b_bits, 16)
    return (at, flipped) == (injection.element, 1 << (injection.bit or 0))


def located(number: int, folder: Path) -> Found:
    """Inject the fault of this number, and look for it both ways."""
    injection = drawn(number)
    traced, run = by_traces(injection, folder), by_runs(injection)
    missed = not traced or run is False
    said = f"{injection} was not found there" if missed else ""
    return Found(number, injection.kind, injection.fault, traced, run is not None, run, said)


def go_on(path: Path, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Add what is missing in the file, a line a fault, until the time is over."""
    done, until = len(list(load(path))), clock() + seconds
    with path.open("a") as file, tempfile.TemporaryDirectory() as folder:
        for number in range(done, INJECTED):
            if clock() > until:
                return
            file.write(json.dumps(asdict(located(number, Path(folder)))) + "\n")


def load(path: Path) -> Iterator[Found]:
    """What the file has."""
    if path.exists():
        for line in path.read_text().splitlines():
            yield Found(**json.loads(line))


def table(found: list[Found]) -> pd.DataFrame:
    """By kind: found between traces, changed an epoch digest, found between runs, absorbed."""
    kinds = list(dict.fromkeys(one.kind for one in found))
    groups = {kind: [one for one in found if one.kind == kind] for kind in sorted(kinds)}
    return pd.DataFrame([_row(kind, group) for kind, group in {**groups, "all": found}.items()])


def _row(kind: str, group: list[Found]) -> dict[str, str]:
    changed = [one for one in group if one.changed]
    absorbed = len(group) - len(changed)
    low, high = wilson(absorbed, len(group))
    return {
        "fault": kind,
        "found between traces": f"{sum(one.by_traces for one in group)} of {len(group)}",
        "found between runs": f"{sum(bool(o.by_runs) for o in changed)} of {len(changed)}",
        "left no trace in the epoch digests": f"{absorbed} ({100 * absorbed / len(group):.1f}%"
        f" [{100 * low:.1f}, {100 * high:.1f}])",
    }


def main() -> int:
    """Go on, then show."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="stop after so long")
    parser.add_argument("--to", type=Path, default=Path("locate.jsonl"), help="one line a fault")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    go_on(given.to, given.seconds)
    found = list(load(given.to))
    print(to_markdown(table(found)))
    print(f"\n{len(found):,} of {INJECTED:,} injected")
    missed = [one.said for one in found if one.said]
    for said in missed:
        print(said)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
