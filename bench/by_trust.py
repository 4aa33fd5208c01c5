"""Error rates of `compare RUN --by SETTING`: false alarms, and detected slowdowns.

    python bench/by_trust.py record --runs 100              # resumable, nothing else running
    python bench/by_trust.py record --runs 100 --noise      # the same under load by bench/noise.py
    python bench/by_trust.py record --runs 100 --apart      # a setting of processes, not cases
    python bench/by_trust.py tools --rounds 20 --noise      # the same task for other tools
    python bench/by_trust.py report --to FILE.md            # judges the recorded runs

Each run trains one case under two settings without effect on a CPU, so four times in every
process; the epochs of one of the four are stretched by 3%. `--by tf32` then compares two pairs: in
one B is slower by 3%, in the other the code is identical. So each run has one slowdown to detect,
and one chance of a false alarm. With `--apart` the setting is an unused environment variable, so A
and B are trained in separate processes. The other tools get the same task: A and B alternately, B
stretched by 3%; each A is also compared with the next A.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from noise import Noise, noise
from ratios import share
from timing_tools import TOOLS, installed

from xorbench.records import loading
from xorbench.report.text import to_markdown
from xorbench.xor.compare.by_axis import AxisComparison, AxisPair, by_axis
from xorbench.xor.matrix.axes import AXES, Axis

OUT: Final = Path("results/by-trust")
PERCENT: Final = 3
THRESHOLD: Final = 1.5  # per cent: half of the injected slowdown
CASE: Final = "cpu-loader-b128-pin0-drop1-w0-s0"
RUN: Final = (
    *("--devices", "cpu", "--batch-sizes", "128", "--pin-memory", "false", "--drop-last", "true"),
    *("--non-blocking", "false,true", "--lr", "0.3", "--epochs", "40", "--processes", "4"),
)


@dataclass(frozen=True)
class Compared:
    """A setting without effect, its option, and the case that is slowed under its second value.

    Attributes:
        suffix: the ending of its folder names.
    """

    suffix: str
    axis: Axis
    option: tuple[str, str]
    slowed: str

    @property
    def words(self) -> tuple[str, ...]:
        """The options of its runs."""
        return (*RUN, *self.option, "--inject", f"delay:percent={PERCENT},cases={self.slowed}")


AXIS: Final = {axis.name: axis for axis in AXES}
TOGETHER: Final = Compared("", AXIS["tf32"], ("--tf32", "false,true"), f"{CASE}-tf32=1")
APART: Final = Compared(
    " apart", AXIS["env"], ("--env", "READ_BY_NOBODY=0,1"), f"{CASE}@env=READ_BY_NOBODY=1"
)


def record(out: Path, runs: int, noisy: bool, compared: Compared) -> None:
    """Make the missing runs, and record each in a file when it ends."""
    folder = out / f"{_load(noisy)}{compared.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "runs.jsonl"
    for number in range(_lines(log), runs):
        command = [sys.executable, "-m", "xorbench", "run", *compared.words, "--out", str(folder)]
        with noise(number) if noisy else nullcontext(Noise()) as load:
            began = time.monotonic()
            ended = subprocess.run(command, check=False, capture_output=True, text=True)
            seconds = time.monotonic() - began
        if ended.returncode:
            sys.exit(f"run {number}: exit code {ended.returncode}\n{ended.stdout}{ended.stderr}")
        run = (folder / "latest").resolve().name
        _note(log, {"run": run, "seconds": seconds, "noise": load.share})


def tools(out: Path, rounds: int, noisy: bool) -> None:
    """Measure A and B with each tool, `rounds` times."""
    folder = out / _load(noisy)
    folder.mkdir(parents=True, exist_ok=True)
    for name, tool in installed().items():
        log = folder / f"{name}.jsonl"
        for number in range(_lines(log), rounds + 1):
            with noise(number) if noisy else nullcontext():
                began = time.monotonic()
                last, a, b = (folder / f"{name}-{side}.json" for side in ("last", "a", "b"))
                tool.measure(a, 0)
                tool.measure(b, PERCENT)
                row = {"caught": tool.alarm(a, b, THRESHOLD)}
                if last.exists():
                    row["false alarm"] = tool.alarm(last, a, THRESHOLD)
                seconds = time.monotonic() - began
            a.replace(last)
            _note(log, {**row, "seconds": seconds})


def _load(noisy: bool) -> str:
    return "noise" if noisy else "quiet"


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _note(log: Path, row: dict[str, Any]) -> None:
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(log.parent.name, row, flush=True)


def report(out: Path) -> str:
    """One table: detected slowdowns and false alarms."""
    rows = []
    for folder in sorted(out.iterdir(), reverse=True):
        if (folder / "runs.jsonl").exists():
            log = pd.read_json(folder / "runs.jsonl", lines=True)
            compared = APART if folder.name.endswith(APART.suffix) else TOGETHER
            runs = [loading.load(folder / "runs" / name) for name in log["run"]]
            for threshold in (1.0, THRESHOLD, 2.0):
                found = [by_axis(run, compared.axis, threshold=threshold / 100) for run in runs]
                gate = f"`compare --by {compared.axis.name}`, {threshold:g}%"
                rows.append(_row(folder.name, compared, gate, log, found))
        for name, tool in TOOLS.items():
            if (folder / f"{name}.jsonl").exists():
                log = pd.read_json(folder / f"{name}.jsonl", lines=True)
                rows.append(
                    {
                        "load": folder.name,
                        "tool and gate": f"{name}, {tool.gate(THRESHOLD)}",
                        f"{PERCENT}% slower, caught": _share(log["caught"]),
                        "same code, called slower": _share(log["false alarm"].dropna()),
                        "seconds, median and most": _seconds(log["seconds"]),
                    }
                )
    return to_markdown(pd.DataFrame(rows))


def _row(
    load: str, compared: Compared, gate: str, log: pd.DataFrame, found: Sequence[AxisComparison]
) -> dict[str, str]:
    slowed, same = (
        [pair for one in found for pair in one.pairs if (pair.b == compared.slowed) is wanted]
        for wanted in (True, False)
    )
    ratios = [math.log(pair.speed.ratio) for pair in same]
    return {
        "load": load,
        "tool and gate": gate,
        f"{PERCENT}% slower, caught": _share(p.speed.verdict == "slower" for p in slowed),
        "same code, called slower": _share(p.speed.verdict == "slower" for p in same),
        "called faster": str(sum(p.speed.verdict == "faster" for p in same)),
        "interval covers the true ratio": _share(
            _covers(pair, true)
            for pairs, true in ((slowed, 1 + PERCENT / 100), (same, 1.0))
            for pair in pairs
        ),
        "same code, deviation of B ÷ A (%)": f"{100 * np.std(ratios, ddof=1):.2f}",
        "seconds, median and most": _seconds(log["seconds"]),
    }


def _covers(pair: AxisPair, true: float) -> bool:
    low, high = pair.speed.low, pair.speed.high
    return low is not None and high is not None and low <= true <= high


def _share(found: Iterable[Any]) -> str:
    every = [bool(one) for one in found]
    return share(sum(every), len(every))


def _seconds(some: Any) -> str:
    return f"{np.median(some):.0f}, {np.max(some):.0f}"


def main() -> None:
    """Record, measure the other tools, or report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("record", "tools", "report"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--noise", action="store_true", help="run under bursts of load")
    parser.add_argument("--apart", action="store_true", help="train A and B in separate processes")
    parser.add_argument("--to", type=Path, help="write the report to this file")
    given = parser.parse_args()
    if given.what == "record":
        record(given.out, given.runs, given.noise, APART if given.apart else TOGETHER)
    elif given.what == "tools":
        tools(given.out, given.rounds, given.noise)
    else:
        text = report(given.out)
        print(text)
        if given.to:
            given.to.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
