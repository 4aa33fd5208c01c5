"""How time and memory grow: commands with more cases, epochs, steps and parameters, tenfold twice.

    python bench/growth.py --rounds 3

Each command runs as a user types it. A row has the median of its wall times, and the peak memory
of its largest process, at a size, ten times it, and a hundred times it. What a command takes at any
size is in all three; so the last column is the time that ten times as much adds the second time,
divided by what it adds the first time, and a figure above 10 is worse than linear. Ranks have a
benchmark of their own: `bench/fleet_scale.py`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from xorbench.recorder.environment import processor
from xorbench.report.text import to_markdown

TIMES: Final = (1, 10, 100)
PLAIN: Final = ("--devices", "cpu", "--batch-sizes", "128", "--drop-last", "true")
SMALL: Final = (*PLAIN, "--pin-memory", "false", "--processes", "1", "--test-size", "50")


class Cost(NamedTuple):
    """What one command took: wall time, and the peak memory of its largest process."""

    seconds: float
    mib: float


def cost(folder: Path, *words: str) -> Cost:
    """Run a command in a folder. Raises `RuntimeError` where it does not come to its end."""
    began = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        command = [sys.executable, "-m", "xorbench", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) not in (0, 1, 3):
        raise RuntimeError(f"{' '.join(words)}: {(folder / 'output.txt').read_text()[-400:]}")
    return Cost(seconds, usage.ru_maxrss / 1024)


def of_cases(times: int) -> tuple[str, ...]:
    """A run of so many cases."""
    return ("run", *SMALL, "--epochs", "2", "--train-size", "256", "--seeds", f"0-{times - 1}")


def of_epochs(times: int) -> tuple[str, ...]:
    """A run of one case, ten epochs and more."""
    return ("run", *SMALL, "--epochs", str(10 * times), "--train-size", "256")


def runs(root: Path, words: Callable[[int], tuple[str, ...]]) -> Iterator[tuple[str, list[Cost]]]:
    """The run, made twice; its report made again; the two compared."""
    folders = [root / f"{words.__name__}-{times}" for times in TIMES]
    found: dict[str, list[Cost]] = {"run": [], "report": [], "compare": []}
    for times, folder in zip(TIMES, folders, strict=True):
        folder.mkdir(exist_ok=True)
        out = f"{time.monotonic_ns()}"
        costs = [cost(folder, *words(times), "--out", out, "--name", name) for name in "ab"]
        found["run"].append(costs[0])
        found["report"].append(cost(folder, "report", "a", "--out", out))
        found["compare"].append(cost(folder, "compare", "a", "b", "--out", out))
    yield from found.items()


def checks(root: Path, option: str, base: int) -> Iterator[tuple[str, list[Cost]]]:
    """A training checked, with more steps or more parameters."""
    folder = root / option.strip("-")
    folder.mkdir(exist_ok=True)
    child = (sys.executable, str(Path(__file__).resolve()), "child")
    yield (
        "check",
        [cost(folder, "check", "--", *child, option, str(base * times)) for times in TIMES],
    )


def train(steps: int, parameters: int) -> None:
    """A training of one layer with so many parameters."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(100, max(1, parameters // 101))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 100)).square().mean().backward()
        optimizer.step()


def main() -> int:
    """Measure, and print the table; or be the training that is checked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("measure", "child"), default="measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--parameters", type=int, default=10_000)
    given = parser.parse_args()
    if given.what == "child":
        train(given.steps, given.parameters)
        return 0
    measured: dict[tuple[str, str], list[list[Cost]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            series = (
                ("cases: 1", runs(Path(folder), of_cases)),
                ("epochs: 10", runs(Path(folder), of_epochs)),
                ("steps: 10", checks(Path(folder), "--steps", 10)),
                ("parameters: 10,000", checks(Path(folder), "--parameters", 10_000)),
            )
            for grown, rows in series:
                for command, costs in rows:
                    measured.setdefault((command, grown), []).append(costs)
                    print(command, grown, *(f"{one.seconds:.2f}" for one in costs), flush=True)
    print(f"\n{processor()}, {os.cpu_count()} processors, n = {given.rounds}\n")
    print(to_markdown(pd.DataFrame(row(*key, rounds) for key, rounds in measured.items())))
    return 0


def row(command: str, grown: str, rounds: list[list[Cost]]) -> dict[str, str]:
    """One line of the table."""
    seconds = [statistics.median(costs[i].seconds for costs in rounds) for i in range(len(TIMES))]
    peaks = [max(costs[i].mib for costs in rounds) for i in range(len(TIMES))]
    added = seconds[1] - seconds[0], seconds[2] - seconds[1]
    return {
        "command": command,
        "what grows, from": grown,
        **{f"× {n} (s)": f"{one:.2f}" for n, one in zip(TIMES, seconds, strict=True)},
        **{f"× {n} (MiB)": f"{one:.0f}" for n, one in zip(TIMES, peaks, strict=True)},
        "added, second ÷ first": f"{added[1] / added[0]:.1f}" if min(added) > 0.1 else "",
    }


if __name__ == "__main__":
    sys.exit(main())
