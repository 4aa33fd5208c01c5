"""How much `compare` sees, and how often it cries wolf: measured on this machine.

    python bench/timing_trust.py record --runs 250     # resumable: records what is still missing
    python bench/timing_trust.py report                # judges what is recorded

`record` makes separate runs of the same four cases (`results/timing-trust/` by default): four of
the unchanged code, then one in which each case's epochs are really stretched by another percentage,
and so on, so that quiet and busy hours fall on all alike. `report` compares disjoint pairs of
unchanged runs (A/A), and each slowed run with the unchanged run recorded just before it.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from xorbench.observe import store

OUT: Final = Path("results/timing-trust")
PERCENTS: Final = (1, 2, 3, 5, 10)
CASES: Final = tuple(
    f"cpu-loader-b{size}-pin0-drop{drop}-w0-s0" for size in (128, 256) for drop in (1, 0)
)
RUN: Final = ("--batch-sizes", "128,256", "--pin-memory", "false", "--repeats", "3")
A_CYCLE: Final = 4  # unchanged runs for each slowed one


def planned() -> Iterator[tuple[str, dict[str, int]]]:
    """Names of the runs in order, each with the percentage planted in each case."""
    cycle = 0
    while True:
        for number in range(A_CYCLE):
            yield f"same-{A_CYCLE * cycle + number:04d}", {}
        yield f"slow-{cycle:04d}", planted(cycle)
        cycle += 1


def planted(cycle: int) -> dict[str, int]:
    """Which percentage stretches which case: every case meets every percentage in turn."""
    return {case: PERCENTS[(cycle + at) % len(PERCENTS)] for at, case in enumerate(CASES)}


def record(out: Path, runs: int) -> None:
    """Record the next runs that are missing."""
    done = {info.name for info in _infos(out) if info.finished}
    for name, faults in planned():
        if runs == 0:
            return
        if name not in done:
            _run(out, name, faults)
            runs -= 1


def _infos(out: Path) -> Iterator[store.RunInfo]:
    for folder in sorted((out / "runs").glob("*")):
        if (folder / "run.json").exists():
            yield store.read_info(folder)


def _run(out: Path, name: str, faults: dict[str, int]) -> None:
    plants = [f"--plant=delay:percent={p},cases={case}" for case, p in faults.items()]
    command = [sys.executable, "-m", "xorbench", "run", *RUN, "--out", str(out), "--name", name]
    ended = subprocess.run([*command, *plants], check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"{name}: exit code {ended.returncode}\n{ended.stderr}")


def main() -> None:
    """Record or report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("record", "report"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=int, default=250, help="how many more runs to record")
    given = parser.parse_args()
    record(given.out, given.runs)


if __name__ == "__main__":
    main()
