"""The reliability of the speed of `check --against`: false alarms and detected slowdowns.

    python bench/against_trust.py record --minutes 60              # resumable; add --load bursts
    python bench/against_trust.py real --minutes 30                # whole comparisons
    python bench/against_trust.py report --to FILE.md              # evaluates the recorded pairs

Two trainings: `gpt`, the small GPT of examples/gpt.py (2 layers, width 128, AdamW), and `loader`, a
small network whose batches come from two loader processes. A recorded pair is two fresh processes
of a training that take turns, as `check --against` makes them: A, and B with each step stretched by
0, 3, 5 or 10%. A comparison draws its pairs from the pool without repetition, so comparisons share
pairs; the report states the size of each pool. Real comparisons run `check --against` itself, with
turns and without.
"""

import argparse
import contextlib
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, Final

import pandas as pd

from xorbench.programs.command_run import CommandRun
from xorbench.programs.conditions import WAITING, shared_variables
from xorbench.programs.pairs import PairSide, make_pair
from xorbench.programs.questions.against import PROCESSES, SKIP
from xorbench.programs.run_maker import RunMaker
from xorbench.report.text import to_markdown
from xorbench.stats.intervals import wilson
from xorbench.stats.ratio import Ratio
from xorbench.stats.sequential import NORMAL_MAD, is_settled, judged_pairs

OUT: Final = Path("results/against-trust")
CYCLE: Final = (0, 3, 0, 5, 0, 10)  # stretch in percent; most pairs are of equal commands
TRAININGS: Final = ("gpt", "loader")
LOADS: Final = ("quiet", "bursts", "shared")
STEPS: Final = 320  # enough for the most pairs of turns
MOST: Final = PROCESSES
EVALUATED: Final = {0: 100, 3: 40, 5: 40, 10: 40}  # comparisons per stretch in percent
KIND: Final = ("training", "percent", "waiting")
CASES: Final = ((0, 0.05), (3, 0.05), (3, 0.02), (5, 0.05), (5, 0.02), (10, 0.05))
REAL: Final = {"auto": 5, "off": 1}  # comparisons of each kind, by --turns
IDLE_S, BUSY_S = (5.0, 30.0), (2.0, 15.0)  # pauses between bursts, lengths of bursts
BUSY: Final = "import time; end = time.monotonic() + {:.2f}\nwhile time.monotonic() < end: pass"

HEAD: Final = """# Reliability of the speed of `check --against`

```sh
python bench/against_trust.py record --minutes 60
python bench/against_trust.py real --minutes 60
python bench/against_trust.py report --to results/reference/against-trust.md
```

`gpt` is a small GPT on the CPU, `loader` a small CNN with two loader processes, on two cores. B is
the same command, or the same with each step stretched. [How the speed is
measured](../../docs/your-training.md#did-my-change-alter-the-results-or-the-speed)."""
TEXTS: Final = {
    "Goals": "The share of comparisons with this verdict.",
    "Comparisons drawn from the pools": (
        "Each draws its pairs without repetition. Comparisons of one pool share pairs."
    ),
    "Whole comparisons": (
        "`check --against --speed-only`, turn by turn (auto) and one after the other (off). Shared:"
        " editors, linters and other short programs used the machine at the same time."
    ),
    "Time of a whole comparison": "The mean time with turns ÷ with `--turns off`.",
    "Pools of pairs": (
        "A pair is two fresh processes that take turns. The standard deviation of equal commands is"
        " the run-to-run variance that remains. Waiting OpenMP threads sleep, or spin (default)."
    ),
}


# The trainings


def train(training: str, percent: int) -> None:
    """Train with each step stretched by a percentage."""
    import torch

    steps, optimizer = _gpt(torch) if training == "gpt" else _loader(torch)
    began = time.perf_counter()

    def stretch(*_: object) -> None:  # runs before the recorder's own hook
        end = time.perf_counter() + (time.perf_counter() - began) * percent / 100
        while time.perf_counter() < end:
            pass

    optimizer.register_step_post_hook(stretch)
    for _ in range(STEPS):
        began = time.perf_counter()
        next(steps)
        optimizer.step()


def _gpt(torch: Any) -> tuple[Iterator[None], Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    import gpt

    torch.manual_seed(0)
    sizes = argparse.Namespace(layers=2, width=128, heads=4, length=64, dropout=0.0)
    model = gpt.GPT(sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    data = torch.randint(0, len(gpt.CHARACTERS), (64, 8, 65))

    def steps() -> Iterator[None]:
        for number in count():
            tokens = data[number % 64]
            logits = model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            yield

    return steps(), optimizer


def _loader(torch: Any) -> tuple[Iterator[None], Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(10),
    )
    images = torch.utils.data.TensorDataset(torch.randn(1024, 3, 32, 32))
    order = torch.utils.data.RandomSampler(images, True, 32 * (STEPS + 1))
    loader = torch.utils.data.DataLoader(images, 32, sampler=order, num_workers=2)
    model(torch.zeros(1, 3, 32, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def steps() -> Iterator[None]:
        for (batch,) in loader:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            yield

    return steps(), optimizer


def words(training: str, percent: int) -> tuple[str, ...]:
    """The command of a training."""
    return (sys.executable, str(Path(__file__).resolve()), "child", training, str(percent))


# Recording


def record(minutes: float, load: str, waiting: str) -> None:
    """Make pairs until the time is over; append each to its file when it ends."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"pairs-{load}.jsonl"
    done = len(path.read_text().splitlines()) if path.exists() else 0
    plan = list(product(CYCLE, TRAININGS))
    deadline = time.monotonic() + 60 * minutes
    with bursts(load == "bursts", seed=done):
        for number in count(done):
            if time.monotonic() > deadline:
                return
            percent, training = plan[number % len(plan)]
            row = {"number": number, "training": training, "percent": percent}
            row |= {"waiting": waiting, **pair(training, percent, number, waiting)}
            _append(path, row)


def pair(training: str, percent: int, number: int, waiting: str) -> dict[str, Any]:
    """The log ratio of one pair of processes, and its time."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = CommandRun((), place, None, 600.0)
        commands = {
            side: replace(run, words=words(training, stretch))
            for side, stretch in (("A", 0), ("B", percent))
        }
        variables = shared_variables("huge", waiting, {})
        sides = {
            side: PairSide(side, 1, f"run-{side}", side, variables)
            for side in ("AB" if number % 2 else "BA")
        }
        maker = RunMaker("check", {}, place, lambda _suffix="": place, lambda _line: None)
        turns = make_pair(maker, commands, sides, SKIP, seed=number).turns
    return {
        "log_ratio": turns.log_ratio,
        "turns": len(turns.order),
        "step_s": turns.step_s("A") if turns.order else None,
        "wall_s": time.monotonic() - began,
    }


def real(minutes: float, load: str) -> None:
    """Whole comparisons with `check --against`, with turns and without, until the time is over."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"real-{load}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    made = Counter((r["training"], r["percent"], r["turns"]) for r in rows)
    deadline = time.monotonic() + 60 * minutes
    kinds = [*product(TRAININGS, EVALUATED, ["auto"]), *product(TRAININGS, [0], ["off"])]
    with bursts(load == "bursts", seed=len(rows)):
        while left := [kind for kind in kinds if made[kind] < REAL[kind[-1]]]:
            if time.monotonic() > deadline:
                return
            kind = min(left, key=made.__getitem__)
            made[kind] += 1
            _append(path, compared(*kind))


def compared(training: str, percent: int, turns: str) -> dict[str, Any]:
    """One comparison."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        against = " ".join(words(training, 0))
        options = ("--speed-only", "--json", "--turns", turns, "--against", against)
        done = subprocess.run(
            [sys.executable, "-m", "xorbench", "check", *options, "--", *words(training, percent)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    speed = {}
    with contextlib.suppress(ValueError, KeyError):
        speed = json.loads(done.stdout)["speed"]
    figures = {name: speed.get(name) for name in ("verdict", "ratio", "low", "high")}
    wall_s = time.monotonic() - began
    kind = {"training": training, "percent": percent, "turns": turns}
    return {**kind, **figures, "wall_s": wall_s}


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(path.stem, row, flush=True)


@contextmanager
def bursts(on: bool, seed: int) -> Iterator[None]:
    """Load one core in random bursts."""
    stop = threading.Event()
    chance = random.Random(seed)

    def disturb() -> None:
        while not stop.wait(chance.uniform(*IDLE_S)):
            seconds = chance.uniform(*BUSY_S)
            subprocess.run([sys.executable, "-c", BUSY.format(seconds)], check=False)

    thread = threading.Thread(target=disturb)
    if on:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if on:
            thread.join()


# The report


@dataclass(frozen=True, slots=True)
class Pool:
    """The pairs of one training, load and stretch."""

    load: str
    training: str
    percent: int
    waiting: str  # of OpenMP threads
    logs: Sequence[float]
    pair_s: float  # mean time of a pair

    @property
    def place(self) -> dict[str, Any]:
        """The columns that identify it."""
        return {"load": self.load, "training": self.training, "B": _name(self.percent)}


@dataclass(frozen=True, slots=True)
class Drawn:
    """The verdicts of comparisons whose pairs are drawn from a pool."""

    pool: Pool
    threshold: float
    ratios: Sequence[Ratio]

    @classmethod
    def from_pool(cls, pool: Pool, threshold: float) -> "Drawn":
        """Draw the pairs of each comparison without repetition."""
        chance, ratios = random.Random(pool.percent), []
        for _ in range(EVALUATED[pool.percent]):
            order = chance.sample(list(pool.logs), MOST)
            used = next(n for n in range(1, MOST + 1) if is_settled(order[:n], MOST, 1 + threshold))
            ratios.append(judged_pairs(order[:used], MOST, 1 + threshold))
        return cls(pool, threshold, ratios)

    def count(self, verdict: str) -> int:
        """The number of comparisons with a verdict."""
        return sum(ratio.verdict == verdict for ratio in self.ratios)

    @property
    def pairs(self) -> float:
        """The mean number of pairs of a comparison."""
        return mean(ratio.processes for ratio in self.ratios)

    @property
    def row(self) -> dict[str, Any]:
        """The row of the table."""
        total, true_ratio = len(self.ratios), 1 + self.pool.percent / 100
        low, high = wilson(self.count("slower"), total)
        covered = sum(bool(r.low and r.high and r.low <= true_ratio <= r.high) for r in self.ratios)
        return {
            **self.pool.place,
            "threshold": f"{self.threshold:.0%}",
            "comparisons": total,
            "slower": f"{self.count('slower')} [{100 * low:.0f}, {100 * high:.0f}]%",
            **{verdict: self.count(verdict) for verdict in ("faster", "same", "inconclusive")},
            "interval covers the true ratio": covered,
            "pairs, mean": f"{self.pairs:.1f}",
            "time (s)": round(self.pairs * self.pool.pair_s),
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """The least or largest share of comparisons with a verdict."""

    percent: int
    threshold: float
    verdicts: tuple[str, ...]
    share: float
    is_most: bool = False

    def row(self, drawn: Drawn) -> dict[str, Any]:
        """The share that was measured."""
        share = sum(map(drawn.count, self.verdicts)) / len(drawn.ratios)
        is_met = share <= self.share if self.is_most else share >= self.share
        return {
            **drawn.pool.place,
            "threshold": f"{self.threshold:.0%}",
            "verdict": " or ".join(self.verdicts),
            "goal": f"{'at most' if self.is_most else 'at least'} {self.share:.0%}",
            "measured": f"{share:.1%} of {len(drawn.ratios)}",
            "met": "yes" if is_met else "no",
        }


GOALS: Final = (
    Goal(0, 0.05, ("slower", "faster"), 0.01, is_most=True),
    Goal(0, 0.05, ("same",), 0.9),
    Goal(5, 0.02, ("slower",), 0.95),
    Goal(10, 0.05, ("slower",), 1.0),
)


def report() -> str:
    """The goals, the comparisons drawn from the pools, whole comparisons, and the pools."""
    pools = [pool for load in LOADS for pool in _pools(load)]
    drawn = [
        Drawn.from_pool(pool, threshold)
        for pool in pools
        if len(pool.logs) >= MOST and pool.waiting == WAITING[0]
        for percent, threshold in CASES
        if percent == pool.percent
    ]
    goals = [
        goal.row(comparisons)
        for goal, comparisons in product(GOALS, drawn)
        if (goal.percent, goal.threshold) == (comparisons.pool.percent, comparisons.threshold)
    ]
    whole = [row for load in LOADS for row in _whole(load)]
    tables = {
        "Goals": goals,
        "Comparisons drawn from the pools": [comparisons.row for comparisons in drawn],
        "Whole comparisons": whole,
        "Time of a whole comparison": _times(whole),
        "Pools of pairs": [_variance(pool) for pool in pools if len(pool.logs) > 1],
    }
    texts = [
        f"## {title}\n{TEXTS[title]}\n\n{to_markdown(pd.DataFrame(rows))}"
        for title, rows in tables.items()
        if rows
    ]
    return "\n\n".join([HEAD, *texts])


def _pools(load: str) -> list[Pool]:
    rows = [row for row in _rows(OUT / f"pairs-{load}.jsonl") if row["log_ratio"] is not None]
    pools = []
    for kind in product(TRAININGS, EVALUATED, WAITING):
        own = [row for row in rows if tuple(row[name] for name in KIND) == kind]
        logs = [row["log_ratio"] for row in own]
        if own:
            pools.append(Pool(load, *kind, logs, mean(row["wall_s"] for row in own)))
    return pools


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _name(percent: int) -> str:
    return "the same command" if percent == 0 else f"stretched by {percent}%"


def _variance(pool: Pool) -> dict[str, Any]:
    """The size of a pool, and the variance of its pairs."""
    center = median(pool.logs)
    distances = [abs(log - center) for log in pool.logs]
    return {
        **pool.place,
        "waiting threads": pool.waiting,
        "pairs": len(pool.logs),
        "mean ratio": f"{math.exp(mean(pool.logs)):.4f}",
        "SD of a pair": f"{stdev(pool.logs):.2%}",
        "SD from the MAD": f"{NORMAL_MAD * median(distances):.2%}",
        "beyond 2% from the median": sum(distance > 0.02 for distance in distances),
        "time of a pair (s)": round(pool.pair_s),
    }


def _whole(load: str) -> list[dict[str, Any]]:
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in _rows(OUT / f"real-{load}.jsonl"):
        groups.setdefault((row["training"], row["percent"], row["turns"]), []).append(row)
    return [
        {
            "load": load,
            "training": training,
            "B": _name(percent),
            "turns": turns,
            "verdicts": ", ".join(
                f"{number} {verdict}"
                for verdict, number in Counter(row["verdict"] for row in rows).items()
            ),
            "mean time (s)": round(mean(row["wall_s"] for row in rows)),
        }
        for (training, percent, turns), rows in sorted(groups.items())
    ]


def _times(whole: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The time of comparisons with turns relative to `--turns off`, where both were made."""
    keys = ("load", "training", "B")
    seconds = {(*map(row.get, keys), row["turns"]): row["mean time (s)"] for row in whole}
    return [
        {**dict(zip(keys, place, strict=True)), "turns ÷ off": f"{took / off:.2f}"}
        for (*place, turns), took in seconds.items()
        if turns == "auto" and (off := seconds.get((*place, "off")))
    ]


def main() -> None:
    """Record, compare, report, or train."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="action", required=True)
    for name in ("record", "real"):
        recording = commands.add_parser(name)
        recording.add_argument("--minutes", type=float, default=60.0)
        recording.add_argument("--load", choices=LOADS, default=LOADS[0])
    commands.choices["record"].add_argument("--waiting", choices=WAITING, default=WAITING[0])
    commands.add_parser("report").add_argument("--to", type=Path)
    child = commands.add_parser("child")
    child.add_argument("training", choices=TRAININGS)
    child.add_argument("percent", type=int)
    options = parser.parse_args()
    if options.action == "child":
        train(options.training, options.percent)
    elif options.action == "report":
        text = report()
        print(text)
        if options.to:
            options.to.write_text(f"{text}\n")
    elif options.action == "record":
        record(options.minutes, options.load, options.waiting)
    else:
        real(options.minutes, options.load)


if __name__ == "__main__":
    main()
