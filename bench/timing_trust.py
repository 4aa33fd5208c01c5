"""Detection and false alarm rates of `compare`, measured on this machine.

    python bench/timing_trust.py record --runs 275      # resumable: records the missing runs
    python bench/timing_trust.py tools --rounds 20      # the same task for other tools
    python bench/timing_trust.py report --to FILE.md    # judges the runs; also writes FILE.csv

`record` makes separate runs of the same four cases (in `results/timing-trust/`): four of the
unchanged code, then one in which the epochs of each case are stretched by a different percentage,
and so on, so that quiet and busy hours affect all equally. The run-to-run variance in
`xor.analysis.speed` was estimated from the first unchanged runs (`CALIBRATION`), which are not
judged, and again at `SETTLED`. `report` compares disjoint pairs of the remaining unchanged runs
(A/A), and each slowed run with the unchanged run recorded just before it. A slowed case is judged
as one of four, by Bonferroni, since its neighbours are slowed, too.

`tools` uses pyperf and hyperfine, and skips a missing one with a message.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from ratios import share
from timing_tools import TOOLS, installed

from xorbench.records import loading
from xorbench.records.schema.run import Run, RunInfo
from xorbench.report.text import to_markdown
from xorbench.stats.intervals import ALPHA, estimate, shift
from xorbench.stats.ratio import decide
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import (
    BETWEEN_RUNS,
    RESIDUAL_DRIFT,
    calibrations,
    log_relative,
    normalized,
    relative_pool,
    residual_drifts,
)
from xorbench.xor.compare.comparison import compare
from xorbench.xor.report.runs import machine_line

OUT: Final = Path("results/timing-trust")
GATE: Final = 5  # per cent from which the other tools call a run slower
PERCENTS: Final = (1, 2, 3, 5, 10)
THRESHOLDS: Final = (0.02, 0.05)
CASES: Final = tuple(
    f"cpu-loader-b{size}-pin0-drop{drop}-w0-s0" for size in (128, 256) for drop in (1, 0)
)
PROCESSES: Final = (2, 5)  # the default number, taken from each run, and all processes
RUN: Final = (
    *("--batch-sizes", "128,256", "--pin-memory", "false", "--lr", "0.3", "--epochs", "40"),
    *("--processes", str(max(PROCESSES))),
)  # fmt: skip
A_CYCLE: Final = 4  # unchanged runs for each slowed one
CALIBRATION: Final = 20  # unchanged runs, at the beginning
SETTLED: Final = 76  # unchanged runs after which the run-to-run variance was fixed


# Recording


def planned() -> Iterator[tuple[str, dict[str, int]]]:
    """Names of the runs in order, each with the percentage injected in each case."""
    cycle = 0
    while True:
        for number in range(A_CYCLE):
            yield f"same-{A_CYCLE * cycle + number:04d}", {}
        yield f"slow-{cycle:04d}", injected(cycle)
        cycle += 1


def injected(cycle: int) -> dict[str, int]:
    """The percentage that stretches each case; every case gets every percentage in turn."""
    return {case: PERCENTS[(cycle + at) % len(PERCENTS)] for at, case in enumerate(CASES)}


def injected_in(name: str) -> dict[str, int]:
    """The percentages of a run by its name; empty for unchanged code."""
    kind, _, cycle = name.partition("-")
    return injected(int(cycle)) if kind == "slow" else {}


def record(out: Path, runs: int) -> None:
    """Record the next missing runs."""
    done = {info.name for info in _infos(out) if info.finished}
    for name, faults in planned():
        if runs == 0:
            return
        if name not in done:
            _run(out, name, faults)
            runs -= 1


def _infos(out: Path) -> Iterator[RunInfo]:
    for folder in sorted((out / "runs").glob("*")):
        if (folder / "run.json").exists():
            yield loading.read_info(folder)


def _run(out: Path, name: str, faults: dict[str, int]) -> None:
    injections = [f"--inject=delay:percent={p},cases={case}" for case, p in faults.items()]
    command = [sys.executable, "-m", "xorbench", "run", *RUN, "--out", str(out), "--name", name]
    ended = subprocess.run([*command, *injections], check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"{name}: exit code {ended.returncode}\n{ended.stderr}")


# The same task for other tools


def tools(out: Path, rounds: int) -> None:
    """Two runs of the same code and one of code slowed by 10%, with every tool, repeatedly."""
    log = out / "tools.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    for _ in range(rounds):
        for name, tool in installed().items():
            begun = time.monotonic()
            a, b, c = (
                tool.measure(out / f"{name}-{side}.json", stretch)
                for side, stretch in (("a", 0), ("b", 0), ("c", 10))
            )
            row = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "tool": name,
                "same": tool.alarm(a, b, GATE),
                "slowed": tool.alarm(b, c, GATE),
                "seconds": (time.monotonic() - begun) / 3,
            }
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")


# The report


def load(out: Path) -> dict[str, Run]:
    """Every finished run by name."""
    runs = {}
    for folder in sorted((out / "runs").glob("*")):
        if (folder / "run.json").exists() and loading.read_info(folder).finished:
            run = loading.load(folder)
            runs[str(run.info.name)] = run
    return runs


def unchanged(runs: dict[str, Run]) -> list[Run]:
    """The runs of the unchanged code, in their order."""
    return [runs[name] for name in sorted(runs) if name.startswith("same")]


def split(runs: dict[str, Run]) -> tuple[dict[str, Run], dict[str, Run]]:
    """The runs of the calibration, and the judged runs."""
    first = [f"same-{CALIBRATION:04d}", f"slow-{CALIBRATION // A_CYCLE:04d}"]
    judged = {name for name in runs if any(n[:4] == name[:4] and n <= name for n in first)}
    return (
        {name: run for name, run in runs.items() if name not in judged},
        {name: run for name, run in runs.items() if name in judged},
    )


def pairs(runs: dict[str, Run]) -> dict[str, list[tuple[Run, Run]]]:
    """Disjoint pairs of the unchanged runs: of neighbours, and of runs half the record apart."""
    same = unchanged(runs)
    half = len(same) // 2
    later = [run for run in same if str(run.info.name) >= f"same-{SETTLED:04d}"]
    return {
        "neighbours": list(zip(same[::2], same[1::2], strict=False)),
        "neighbours, since": list(zip(later[::2], later[1::2], strict=False)),
        "far apart": list(zip(same[:half], same[half:], strict=False)),
    }


def minutes(pair: tuple[Run, Run]) -> float:
    """Minutes between the starts of two runs."""
    a, b = (pd.Timestamp(run.info.started) for run in pair)
    return float((b - a).total_seconds() / 60)


def drift(runs: dict[str, Run]) -> pd.DataFrame:
    """The run-to-run variance of normalized times, in per cent, and the assumed values."""
    rows = []
    for title, part in zip(("calibration", "judged"), split(runs), strict=True):
        evidence = [Evidence(run) for run in unchanged(part)]
        if len(evidence) < 3:
            continue
        pools = [relative_pool(normalized(each)) for each in evidence]
        means = 100 * np.array([[pool.means[case] for case in CASES] for pool in pools])
        processes = 100 * np.array([pool.deviation or 0.0 for pool in pools])
        sampled = float(np.mean(processes**2)) / max(PROCESSES)
        total = float(np.mean(means.var(axis=0, ddof=1)))
        raw = np.array([float(np.mean(next(iter(calibrations(e).values())))) for e in evidence])
        slopes = np.polyfit(100 * (raw - raw.mean()), means, 1)[0]
        rows.append(
            {
                "runs": title,
                "number": str(len(evidence)),
                "raw calibration time, deviation (%)": float(100 * raw.std(ddof=1)),
                "relative figure, deviation (%)": math.sqrt(total),
                "of it sampling of processes (%)": math.sqrt(sampled),
                "between runs (%)": math.sqrt(max(0.0, total - sampled)),
                "taken as (%)": 100 * BETWEEN_RUNS,
                "moves with the raw calibration time by": (
                    f"{slopes.min():.3f} to {slopes.max():.3f}"
                ),
                "taken as ±": str(RESIDUAL_DRIFT),
            }
        )
    return pd.DataFrame(rows)


def same_code(runs: dict[str, Run]) -> pd.DataFrame:
    """A/A, by threshold. An alarm is a case called slower or faster, or a machine."""
    rows = []
    for (which, some), threshold in product(pairs(runs).items(), THRESHOLDS):
        comparisons = [compare(a, b, threshold=threshold) for a, b in some]
        alarms = sum(
            any(row.verdict in ("slower", "faster") for row in (*result.variants, *result.machine))
            for result in comparisons
        )
        rows.append(
            {
                "pairs": which,
                "apart (min)": f"{np.median([minutes(pair) for pair in some]):.1f}" if some else "",
                "threshold (%)": f"{threshold * 100:g}",
                "comparisons": str(len(comparisons)),
                "with any alarm": share(alarms, len(comparisons)),
                "pass": share(sum(x.outcome == "pass" for x in comparisons), len(comparisons)),
                "inconclusive": share(
                    sum(x.outcome == "inconclusive" for x in comparisons), len(comparisons)
                ),
            }
        )
    return pd.DataFrame(rows)


def slow_counts(runs: dict[str, Run]) -> dict[tuple[float, int], Counter[str]]:
    """Verdicts on injected slow-downs, each case against the unchanged run just before it."""
    order = sorted(runs, key=lambda name: runs[name].info.started)
    counts: dict[tuple[float, int], Counter[str]] = {}
    for place, name in enumerate(order):
        earlier = [before for before in order[:place] if before.startswith("same")]
        if name.startswith("slow") and earlier:
            for threshold in THRESHOLDS:
                for percent, verdict in _judged(runs[earlier[-1]], runs[name], threshold):
                    counts.setdefault((threshold, percent), Counter())[verdict] += 1
    return counts


def slowed(runs: dict[str, Run]) -> pd.DataFrame:
    """`slow_counts` as a table."""
    return pd.DataFrame(
        [
            {
                "threshold (%)": f"{threshold * 100:g}",
                "slowed by (%)": str(percent),
                "cases": str(verdicts.total()),
                **{
                    v: share(verdicts[v], verdicts.total())
                    for v in ("slower", "same", "inconclusive")
                },
            }
            for (threshold, percent), verdicts in sorted(slow_counts(runs).items())
        ]
    )


def _judged(a: Run, b: Run, threshold: float) -> Iterator[tuple[int, str]]:
    sides = Evidence(a), Evidence(b)
    before, after = (relative_pool(normalized(side)) for side in sides)
    may_leak = residual_drifts(*sides)
    for case, percent in injected_in(str(b.info.name)).items():
        moved = shift(before, after, case, may_leak[case])
        ratio = moved.ratio(ALPHA / len(CASES))
        p = min(1.0, moved.p * len(CASES))
        yield percent, decide(ratio.value, ratio.low, ratio.high, p, 1 + threshold)


def coverage(runs: dict[str, Run]) -> pd.DataFrame:
    """How often a run's 95% interval covers the median of the others' figures, by case."""
    rows = []
    logs = [normalized(Evidence(run)) for run in unchanged(runs)]
    for processes in PROCESSES:
        pools = [
            relative_pool({case: each[:processes] for case, each in run.items()}) for run in logs
        ]
        for case in CASES:
            means = np.array([pool.means[case] for pool in pools])
            covered = 0
            for place, pool in enumerate(pools):
                middle = math.exp(float(np.median(np.delete(means, place))))
                figure = estimate(pool, case)
                covered += (figure.low or 0) <= middle <= (figure.high or math.inf)
            rows.append(
                {
                    "case": case,
                    "processes": str(processes),
                    "covered": share(covered, len(pools)),
                    "deviation of the figure (%)": float(100 * means.std(ddof=1)),
                    "of processes (%)": float(
                        100 * np.sqrt(np.mean([(pool.deviation or 0) ** 2 for pool in pools]))
                    ),
                }
            )
    return pd.DataFrame(rows)


def every_tool(out: Path, runs: dict[str, Run]) -> pd.DataFrame:
    """The verdicts of each tool on the same task."""
    path = out / "tools.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    shown = [_our_gate(runs)]
    for name, tool in TOOLS.items():
        own_rows = [row for row in rows if row["tool"] == name and "at" in row]
        if own_rows:
            shown.append(
                {
                    "tool": name,
                    "gate": tool.gate(GATE),
                    "same code, called slower": share(
                        sum(r["same"] for r in own_rows), len(own_rows)
                    ),
                    "10% slower, caught": share(sum(r["slowed"] for r in own_rows), len(own_rows)),
                    "a run takes (s)": float(np.median([row["seconds"] for row in own_rows])),
                }
            )
    return pd.DataFrame(shown)


def _our_gate(runs: dict[str, Run]) -> dict[str, object]:
    comparisons = [compare(a, b) for a, b in pairs(runs)["neighbours"]]
    slower = sum(comparison.outcome == "fail" for comparison in comparisons)
    injected_10 = slow_counts(runs).get((0.05, 10), Counter())
    return {
        "tool": "xorbench",
        "gate": "compare (4 cases, 5 processes, 5%)",
        "same code, called slower": share(slower, len(comparisons)),
        "10% slower, caught": share(injected_10["slower"], injected_10.total()),
        "a run takes (s)": float(np.median([_seconds(run) for run in runs.values()])),
    }


def report(out: Path) -> str:
    """The report as Markdown."""
    runs = load(out)
    if not runs:
        sys.exit(f"{out}: nothing is recorded")
    first = next(iter(runs.values()))
    took = [_seconds(run) for run in runs.values()]
    raw = [
        float(np.mean(each))
        for run in runs.values()
        for each in calibrations(Evidence(run)).values()
    ]
    machine = next(w.machine for w in first.info.processes if w.machine)
    last = max(run.info.started for run in runs.values())
    _, judged = split(runs)
    tables: list[tuple[str, pd.DataFrame]] = [
        ("The same code twice (A/A)", same_code(judged)),
        ("Stretched epochs of one case", slowed(judged)),
        ("Coverage of the 95% interval of one run", coverage(judged)),
        ("Run-to-run variance", drift(runs)),
        ("The same task for other tools", every_tool(out, judged)),
    ]
    return "\n\n".join(
        [
            "# Error rates of timing verdicts",
            f"{machine_line(first.info.host)}; PyTorch {machine['torch_version']}, Python"
            f" {machine['python_version']}. {len(runs)} runs of `run {' '.join(RUN)}`, each"
            f" {np.median(took):.0f} s (median; {min(took):.0f} to {max(took):.0f}); a comparison"
            f" costs two, {2 * np.median(took):.0f} s. The raw calibration time had a standard"
            f" deviation of {100 * np.std(raw, ddof=1):.0f}% between them. Recorded from"
            f" {first.info.started} to {last} (UTC). The assumed run-to-run variance was estimated"
            " on the reference machine: from the first"
            f" {CALIBRATION} unchanged runs there, which no other table uses, and again after"
            f" {SETTLED} runs: the rows *since* have only later runs. Shares"
            " have Wilson's 95% interval.",
            "Made by `python bench/timing_trust.py record`, `… tools` and `… report`. The CSV file"
            " next to this one has the figures of every process of every run.",
            *(f"## {title}\n\n{to_markdown(frame)}" for title, frame in tables if len(frame)),
        ]
    )


def figures(runs: dict[str, Run]) -> pd.DataFrame:
    """Medians over the epochs of each process: epoch, calibration and normalized time."""
    rows = []
    for name, run in sorted(runs.items(), key=lambda item: item[1].info.started):
        slow = injected_in(name)
        for training in sorted(run.trainings, key=lambda t: (CASES.index(t.case.id), t.process)):
            seconds = [value for value in training.calibration_s if value is not None]
            rows.append(
                {
                    "run": name,
                    "started": run.info.started,
                    "case": training.case.id,
                    "process": training.process,
                    "slowed by (%)": slow.get(training.case.id, 0),
                    "normalized time": round(math.exp(log_relative(training) or 0.0), 5),
                    "epoch (ms)": round(1e3 * float(np.median(training.epoch_s)), 4),
                    "calibration (ms)": round(1e3 * float(np.median(seconds)), 4),
                }
            )
    return pd.DataFrame(rows)


def _seconds(run: Run) -> float:
    times: list[Any] = [pd.Timestamp(text) for text in (run.info.started, run.info.finished)]
    return float((times[1] - times[0]).total_seconds())


def main() -> None:
    """Record, measure the other tools, or report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("record", "tools", "report"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=int, default=275, help="number of runs to record")
    parser.add_argument(
        "--rounds", type=int, default=20, help="number of measurements with each tool"
    )
    parser.add_argument("--to", type=Path, help="write the report to this file")
    given = parser.parse_args()
    if given.what == "record":
        record(given.out, given.runs)
    elif given.what == "tools":
        tools(given.out, given.rounds)
    elif given.to:
        given.to.write_text(report(given.out) + "\n")
        figures(load(given.out)).to_csv(given.to.with_suffix(".csv"), index=False)
    else:
        print(report(given.out))


if __name__ == "__main__":
    main()
