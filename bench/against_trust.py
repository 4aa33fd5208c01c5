"""The reliability of the speed of `check --against`: false alarms and detected slowdowns.

    python bench/against_trust.py record              # resumable; 34 cycles of 6 runs
    python bench/against_trust.py record --bursts     # under bursts of load
    python bench/against_trust.py report --to FILE.md             # evaluates the recorded runs

Each run trains the small GPT of examples/gpt.py (4 layers, width 256, AdamW) in a fresh process
under the recorder's clock, as `check --against` does. A cycle is A 5 A A 10 A: the unchanged
command, and the command with each step stretched by 5% and by 10%. A comparison takes five
successive runs of each side, in the order A B B A … of `check --against`: each stretched run is
paired alternately with the previous and the next run of A. Comparisons of A with itself assign ten
runs of A to the sides in this order. A comparison begins at every run, so comparisons share runs:
136 runs of A are 127 comparisons, with the evidence of 13 that share none. The report has both.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pandas as pd
from check_cost import _gpt_step

from xorbench.programs.command_run import CommandRun, execute
from xorbench.programs.questions.against import PROCESSES, SKIP
from xorbench.programs.step_time import ClockedRun, clocked, step_speed
from xorbench.records import trace as traces
from xorbench.report.text import to_markdown
from xorbench.stats.intervals import wilson

OUT: Final = Path("results/against-trust")
CYCLE: Final = (0, 5, 0, 0, 10, 0)  # stretch in percent
STEPS: Final = 25
THRESHOLD: Final = 0.05
IDLE_S, BUSY_S = (5.0, 30.0), (2.0, 15.0)  # pauses between bursts, lengths of bursts
BUSY: Final = "import time; end = time.monotonic() + {:.2f}\nwhile time.monotonic() < end: pass"


def train(percent: int) -> None:
    """Train with each step stretched by a percentage."""
    import torch

    step = _gpt_step(torch)
    for _ in range(STEPS):
        began = time.perf_counter()
        step()
        end = time.perf_counter() + (time.perf_counter() - began) * percent / 100
        while time.perf_counter() < end:
            pass


def record(cycles: int, load: str) -> None:
    """Make the missing runs; append each to the file when it ends."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{load}.jsonl"
    done = len(path.read_text().splitlines()) if path.exists() else 0
    with bursts(load == "bursts", seed=done):
        for number in range(done, cycles * len(CYCLE)):
            percent = CYCLE[number % len(CYCLE)]
            row = {"number": number, "percent": percent, **timed(percent)}
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(load, row, flush=True)


def timed(percent: int) -> dict[str, Any]:
    """One run: the number of timed steps, and their median."""
    words = (sys.executable, str(Path(__file__).resolve()), "child", "--percent", str(percent))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = CommandRun(words, place, None, 600.0)
        ended = execute(run, 1, place, place / "run", {"level": "clock"})
        times = clocked(traces.recorded(ended.records), SKIP)
    return {"timed": times.timed, "median_s": times.median_s}


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


def windows(runs: Sequence[tuple[int, ClockedRun]], percent: int) -> Iterator[Any]:
    """The comparisons: five successive runs of A and of B each."""
    if percent == 0:
        same = [run for stretch, run in runs if stretch == 0]
        order = [number % 4 in (1, 2) for number in range(2 * PROCESSES)]
        for first in range(len(same) - len(order) + 1):
            window = same[first : first + len(order)]
            yield [
                [run for run, is_b in zip(window, order, strict=True) if is_b is side]
                for side in (False, True)
            ]
        return
    places = [place for place, (stretch, _) in enumerate(runs[:-1]) if stretch == percent]
    partners = [runs[place + (-1, 1)[turn % 2]][1] for turn, place in enumerate(places)]
    for first in range(len(places) - PROCESSES + 1):
        window = slice(first, first + PROCESSES)
        yield partners[window], [runs[place][1] for place in places[window]]


def report() -> str:
    """The table of verdicts, with Wilson intervals for the share of *slower*."""
    rows = []
    for path in sorted(OUT.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        runs = [(row["percent"], ClockedRun(row["timed"], row["median_s"])) for row in lines]
        for percent in (0, 5, 10):
            comparisons = list(windows(runs, percent))
            disjoint = comparisons[:: 2 * PROCESSES if percent == 0 else PROCESSES]
            for which, selected in (("sharing runs", comparisons), ("sharing none", disjoint)):
                rows.append(_row(path.stem, percent, which, selected))
    return to_markdown(pd.DataFrame(rows))


def _row(load: str, percent: int, which: str, comparisons: Sequence[Any]) -> dict[str, Any]:
    speeds = [step_speed(a, b, THRESHOLD, SKIP) for a, b in comparisons]
    verdicts = Counter(speed.verdict for speed in speeds)
    low, high = wilson(verdicts["slower"], len(speeds)) if speeds else (0.0, 1.0)
    true_ratio = 1 + percent / 100
    ratios = [speed.ratio for speed in speeds if speed.ratio is not None]
    covered = sum(bool(r.low and r.high and r.low <= true_ratio <= r.high) for r in ratios)
    return {
        "load": load,
        "B": "the same command" if percent == 0 else f"stretched by {percent}%",
        "comparisons": f"{len(speeds)}, {which}",
        "slower": f"{verdicts['slower']} [{100 * low:.0f}, {100 * high:.0f}]%",
        "faster": verdicts["faster"],
        "same": verdicts["same"],
        "inconclusive": verdicts["inconclusive"],
        "interval covers the true ratio": covered,
    }


def main() -> None:
    """Record, report, or train."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="action", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("--cycles", type=int, default=34)
    recording.add_argument("--bursts", action="store_true")
    commands.add_parser("report").add_argument("--to", type=Path)
    commands.add_parser("child").add_argument("--percent", type=int, required=True)
    options = parser.parse_args()
    if options.action == "child":
        train(options.percent)
    elif options.action == "record":
        record(options.cycles, "bursts" if options.bursts else "quiet")
    else:
        text = report()
        print(text)
        if options.to:
            options.to.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
