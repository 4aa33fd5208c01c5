"""The whole report of a run: a heading that names machine and command, the verdict, the tables."""

import json
from collections.abc import Sequence
from typing import Final

import msgspec
import pandas as pd

from xorbench.judge.checks import summary
from xorbench.observe.records import Run, Verdict
from xorbench.report.tables import TABLES
from xorbench.report.text import to_markdown, to_terminal

TITLES: Final = {
    "throughput": "Throughput",
    "accuracy": "Accuracy",
    "determinism": "Determinism",
    "settings": "What changing each setting does to the bits",
    "not trained": "Skipped, failed and unfinished cases",
    "workers": "Workers",
    "checks": "Checks",
}
EXPLANATIONS: Final = {
    "throughput": (
        "The centre is the geometric mean of the workers' median epochs; the 95 % interval is"
        " Student's t between workers, pooled over the cases. It speaks of fresh processes on this"
        " machine in these minutes, not of tomorrow: for that, compare `epoch ÷ yardstick`, which"
        " divides by a frozen training timed in the same rounds. Epochs/s and steps/s are the same"
        " speed in other units, with the same relative interval. `÷ first` is paired round by round"
        " with the first case."
    ),
    "accuracy": "Counted as integers. Of several workers the worst is shown.",
    "determinism": (
        "The first 16 digits of the SHA-256 over the trained weights; the CSV file has all 64."
        " `rerun`: every worker recorded the same digests epoch by epoch."
    ),
}
TERMINAL_TABLES: Final = ("throughput", "accuracy", "determinism", "not trained")


def heading(run: Run) -> list[tuple[str, str]]:
    """What identifies the numbers: machine, versions, command, date, planted faults."""
    info = run.info
    machine = next((w.machine for w in info.workers if w.machine), {})
    host = info.host
    devices = ", ".join(str(d.get("name", d["device"])) for d in machine.get("devices", []))
    memory = f"{host.get('memory_bytes', 0) / 2**30:.0f} GiB"
    rows = [
        ("run", info.id + (f" ({info.name})" if info.name else "")),
        ("command", info.command),
        ("started", info.started),
        ("finished", info.finished or "not yet"),
        ("machine", f"{host.get('cpu', '?')}, {host.get('cores_logical', '?')} cores, {memory}"),
        ("accelerator", devices or "none"),
        ("system", f"{machine.get('os', '?')} {machine.get('machine', '')}"),
        ("software", _software(machine)),
        ("workers", f"{info.repeats} × {len(info.settings)} setting(s), fresh processes"),
    ]
    if info.faults:
        rows.append(("PLANTED FAULTS", "; ".join(info.faults)))
    return rows


def _software(machine: dict[str, object]) -> str:
    if not machine:
        return "unknown"
    return (
        f"PyTorch {machine['torch_version']}, Python {machine['python_version']},"
        f" NumPy {machine['numpy_version']}, CPU threads: {machine['threads']},"
        f" {machine['cpu_capability']}"
    )


def markdown(run: Run, verdicts: Sequence[Verdict]) -> str:
    """`report.md`."""
    head = pd.DataFrame(heading(run), columns=["what", "value"])
    parts = ["# xorbench report", to_markdown(head), f"**{summary(verdicts)}**"]
    failed = failures(verdicts)
    if failed:
        parts += ["## What failed", "\n".join(f"- {line}" for line in failed)]
    for name, table in TABLES.items():
        frame = table(run, verdicts)
        if name == "not trained" and frame.empty:
            continue
        parts += [f"## {TITLES[name]}", *filter(None, [EXPLANATIONS.get(name)]), to_markdown(frame)]
    return "\n\n".join(parts) + "\n"


def terminal(run: Run, verdicts: Sequence[Verdict]) -> str:
    """What `run` and `report` print: heading, the main tables, what failed, the verdict."""
    width = max(len(key) for key, _ in heading(run))
    parts = ["\n".join(f"{key:<{width}}  {value}" for key, value in heading(run))]
    for name in TERMINAL_TABLES:
        frame = TABLES[name](run, verdicts)
        if name != "not trained" or not frame.empty:
            parts += [f"{TITLES[name]}\n\n{to_terminal(frame)}"]
    parts += ["\n".join(failures(verdicts))] if failures(verdicts) else []
    return "\n\n".join([*parts, summary(verdicts)])


def failures(verdicts: Sequence[Verdict]) -> list[str]:
    """One line a failed verdict: check, subject, expected, actual, hint."""
    return [
        f"FAIL {v.check}: {v.subject}: {v.actual} (expected {v.expected})"
        + (f"; hint: {v.hint}" if v.hint else "")
        for v in verdicts
        if v.outcome == "fail"
    ]


def as_json(run: Run, verdicts: Sequence[Verdict], exit_code: int) -> str:
    """The run for programs: where it is, what it came to, its tables and verdicts."""
    tables = {name: table(run, verdicts) for name, table in TABLES.items()}
    summary_of_run = {
        "schema_version": run.info.schema_version,
        "run": run.info.id,
        "exit_code": exit_code,
        "heading": dict(heading(run)),
        "tables": {n: json.loads(f.to_json(orient="records")) for n, f in tables.items()},
        "verdicts": msgspec.to_builtins(verdicts),
    }
    return json.dumps(summary_of_run, indent=2)


def preview_text(cases: Sequence[tuple[str, str]], workers: int, estimate_s: float) -> str:
    """What a dry run prints: every case with its note, and a guess of the time."""
    frame = pd.DataFrame(cases, columns=["case", "note"])
    size = f"{len(cases)} cases in each of {workers} workers"
    return f"{to_terminal(frame)}\n\n{size}, about {estimate_s:,.0f} s on a small machine"


def preview_json(cases: Sequence[tuple[str, str]], workers: int, estimate_s: float) -> str:
    """The same for programs."""
    listed = [{"case": case, "note": note} for case, note in cases]
    return json.dumps({"cases": listed, "workers": workers, "estimate_s": estimate_s}, indent=2)
