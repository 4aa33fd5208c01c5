"""How far the speed of `check --against` can be trusted: false alarms, and slowdowns that it sees.

    python bench/against_trust.py record              # resumable; 34 cycles of 6 runs
    python bench/against_trust.py record --bursts     # the same under bursts of load
    python bench/against_trust.py report --to FILE.md             # judges what is recorded

Each run trains the small GPT of examples/gpt.py (4 layers, width 256, AdamW) in a fresh process
under the recorder's clock, as `check --against` does. A cycle is A 5 A A 10 A: the command as it
is, and with each step really stretched by 5 and by 10%. A comparison takes five runs of each side
that follow each other, in the order A B B A … that `check --against` has: a stretched run is taken
with the run of A before it and after it in turn. Those of the same command take ten runs of A and
give them to the sides in that order. Comparisons begin one run after the other, so they share
runs: 136 runs of A are 127 comparisons, and as much evidence as 13 that share none, which are told
besides.
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
CYCLE: Final = (0, 5, 0, 0, 10, 0)  # per cent
STEPS: Final = 25
THRESHOLD: Final = 0.05
IDLE_S, BUSY_S = (5.0, 30.0), (2.0, 15.0)  # between bursts, and how long one lasts
BUSY: Final = "import time; end = time.monotonic() + {:.2f}\nwhile time.monotonic() < end: pass"


def train(percent: int) -> None:
    """Train, each step stretched by so many per cent."""
    import torch

    step = _gpt_step(torch)
    for _ in range(STEPS):
        began = time.perf_counter()
        step()
        end = time.perf_counter() + (time.perf_counter() - began) * percent / 100
        while time.perf_counter() < end:
            pass


def record(cycles: int, load: str) -> None:
    """Make the runs that are still missing, each appended to the file as it ends."""
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
    """One run: how many steps were timed, and their median."""
    words = (sys.executable, str(Path(__file__).resolve()), "child", "--percent", str(percent))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = CommandRun(words, place, None, 600.0)
        ended = execute(run, 1, place, place / "run", {"level": "clock"})
        found = clocked(traces.recorded(ended.records), SKIP)
    return {"timed": found.timed, "median_s": found.median_s}


@contextmanager
def bursts(on: bool, seed: int) -> Iterator[None]:
    """Meanwhile let another program be busy on one core, now and then."""
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
    """Each comparison: five runs of A and five of B that follow each other."""
    if percent == 0:
        same = [run for at, run in runs if at == 0]
        order = [number % 4 in (1, 2) for number in range(2 * PROCESSES)]
        for first in range(len(same) - len(order) + 1):
            some = same[first : first + len(order)]
            yield [
                [run for run, is_b in zip(some, order, strict=True) if is_b is side]
                for side in (False, True)
            ]
        return
    places = [place for place, (at, _) in enumerate(runs[:-1]) if at == percent]
    beside = [runs[place + (-1, 1)[turn % 2]][1] for turn, place in enumerate(places)]
    for first in range(len(places) - PROCESSES + 1):
        some = slice(first, first + PROCESSES)
        yield beside[some], [runs[place][1] for place in places[some]]


def report() -> str:
    """A table of what was said of how many, with Wilson's interval of the share called slower."""
    rows = []
    for path in sorted(OUT.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        runs = [(row["percent"], ClockedRun(row["timed"], row["median_s"])) for row in lines]
        for percent in (0, 5, 10):
            every = list(windows(runs, percent))
            apart = every[:: 2 * PROCESSES if percent == 0 else PROCESSES]
            for which, some in (("sharing runs", every), ("sharing none", apart)):
                rows.append(_row(path.stem, percent, which, some))
    return to_markdown(pd.DataFrame(rows))


def _row(load: str, percent: int, which: str, some: Sequence[Any]) -> dict[str, Any]:
    found = [step_speed(a, b, THRESHOLD, SKIP) for a, b in some]
    verdicts = Counter(one.verdict for one in found)
    low, high = wilson(verdicts["slower"], len(found)) if found else (0.0, 1.0)
    true = 1 + percent / 100
    covered = sum(bool(one.low and one.high and one.low <= true <= one.high) for one in found)
    return {
        "load": load,
        "B": "the same command" if percent == 0 else f"stretched by {percent}%",
        "comparisons": f"{len(found)}, {which}",
        "slower": f"{verdicts['slower']} [{100 * low:.0f}, {100 * high:.0f}]%",
        "faster": verdicts["faster"],
        "same": verdicts["same"],
        "inconclusive": verdicts["inconclusive"],
        "interval covers the truth": covered,
    }


def main() -> None:
    """Record, report, or train."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("--cycles", type=int, default=34)
    recording.add_argument("--bursts", action="store_true")
    commands.add_parser("report").add_argument("--to", type=Path)
    commands.add_parser("child").add_argument("--percent", type=int, required=True)
    given = parser.parse_args()
    if given.what == "child":
        train(given.percent)
    elif given.what == "record":
        record(given.cycles, "bursts" if given.bursts else "quiet")
    else:
        text = report()
        print(text)
        if given.to:
            given.to.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
