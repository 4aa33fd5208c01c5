"""The report of a run: which machine and command, which tables, which pictures."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import pandas as pd

from xorbench.judge import system_samples
from xorbench.judge.summary import answers
from xorbench.observe.records import Run, RunInfo, Verdict
from xorbench.report.content import Content, Picture, Section
from xorbench.report.plots import PLOTS, Plot
from xorbench.report.tables import CSV_IF_ANY, CSV_IN_FULL, CSV_TABLES, TABLES

TITLES: Final = {
    "throughput": "Throughput",
    "accuracy": "Accuracy",
    "determinism": "Determinism",
    "engines": "Engines",
    "float64_error": "How far the weights are from double precision",
    "settings": "What changing each setting does to the bits",
    "costs": "What each setting costs here",
    "cost_model": "What a step and a sample cost here",
    "not trained": "Skipped, failed and unfinished cases",
    "processes": "Processes",
    "checks": "Checks",
}
EXPLANATIONS: Final = {
    "throughput": (
        "The centre is the geometric mean of the processes' median epochs; the 95 % interval is"
        " Student's t between processes, pooled over the cases. It speaks of fresh processes on"
        " this machine in these minutes, not of tomorrow: for that, compare `normalized time`"
        " (lower is faster), which divides by the calibration time of the same rounds, and whose"
        " interval also holds what moves from run to run. Epochs/s and steps/s are the same"
        " speed in other units, with the same relative interval. `speedup` is paired round by round"
        " with the first case."
    ),
    "costs": (
        "Epoch time with the setting at `to` ÷ at `from`, paired round by round: the geometric mean"
        " over all pairs of cases that differ in this setting alone, its 95 % interval, and the"
        " lowest and highest pair."
    ),
    "cost_model": (
        "`epoch_s = a · batches + b · samples`, the line of least relative error through the batch"
        " sizes; its 95 % interval holds both how far they lie off the line and how far processes"
        " lie apart. The leave-one-out error is that of the line through the others, at each size"
        " in turn. An accelerator overtakes the CPU where their two lines cross."
    ),
    "accuracy": "Counted as integers. Of several processes the worst is shown.",
    "determinism": (
        "The first 16 digits of the SHA-256 over the trained weights; the CSV file has all 64."
        " `rerun`: every process recorded the same digests epoch by epoch."
    ),
    "engines": (
        "`÷ loader` is paired round by round within each process. Bits are compared within the"
        " PyTorch training: the universal training has its own, which the check `universal`"
        " compares with the golden digest. Start-up is the engine's slowest opening in a fresh"
        " process, to capture, to compile, to load: what one case compiled, the next finds. It"
        " breaks even once the faster epochs have made up for it."
    ),
    "float64_error": (
        "The largest error of a weight against the same training in float64 (same points, order and"
        " initial weights), in float32's ulps at the largest weight, of the worst process. Two"
        " devices with other bits but errors of one size have both rounded; one with a far larger"
        " error is wrong. The CSV file has every epoch."
    ),
    "settings": (
        "What a change of one setting alone must do to the bits, compared with what this run saw."
        " `ulps`: how many float32 numbers lie between two weights after that epoch, at most."
    ),
}
TERMINAL_TABLES: Final = ("throughput", "accuracy", "determinism", "engines", "not trained")
OPTIONAL_TABLES: Final = ("cost_model", "costs", "engines", "float64_error", "not trained")


def content(run: Run, verdicts: Sequence[Verdict]) -> Content:
    """The content of a run's report."""
    return Content(
        id=run.info.id,
        schema_version=run.info.schema_version,
        anonymous=run.info.anonymous,
        heading=heading(run),
        sections=[_section(name, run, verdicts) for name in TABLES],
        pictures=[_picture(name, plot, run) for name, plot in PLOTS.items()],
        verdicts=verdicts,
        answers=answers(run, verdicts),
        environment=environment(run),
        again=[run.info.command],
    )


def _picture(name: str, plot: Plot, run: Run) -> Picture:
    return Picture(
        name=name,
        title=plot.title,
        caption=plot.caption,
        data=partial(plot.data, run),
        draw=plot.draw,
        describe=plot.describe,
        under=plot.under,
    )


def _section(name: str, run: Run, verdicts: Sequence[Verdict]) -> Section:
    frame = TABLES[name](run, verdicts)
    return Section(
        name=name,
        title=TITLES.get(name, name.capitalize()),
        frame=frame,
        about=EXPLANATIONS.get(name, ""),
        csv=_filed(name, frame, run),
        terminal=name in TERMINAL_TABLES,
        optional=name in OPTIONAL_TABLES,
    )


def _filed(name: str, frame: pd.DataFrame, run: Run) -> pd.DataFrame | None:
    """What the CSV file of a table holds; None where it has none."""
    if name in CSV_TABLES or (name in CSV_IF_ANY and not frame.empty):
        return CSV_IN_FULL[name](run) if name in CSV_IN_FULL else frame
    return None


def heading(run: Run) -> list[tuple[str, str]]:
    """What identifies the numbers: machine, versions, command, date, injected faults."""
    info = run.info
    machine = next((w.machine for w in info.processes if w.machine), {})
    devices = ", ".join(str(d.get("name", d["device"])) for d in machine.get("devices", []))
    rows = [
        ("run", info.id + (f" ({info.name})" if info.name else "")),
        ("command", info.command),
        ("started", info.started),
        ("finished", info.finished or "not yet"),
        ("machine", machine_line(info.host)),
        ("accelerator", devices or "none"),
        ("system", f"{machine.get('os', '?')} {machine.get('machine', '')}"),
        ("software", _softwares(run)),
        ("processes", _processes(info)),
    ]
    rows.append(("system samples", system_samples.summary(run.system_samples)))
    if info.stress:
        rows.append(("stressed", f"the {info.stress} was kept busy: speeds are of no use"))
    if info.faults:
        rows.append(("INJECTED FAULTS", "; ".join(info.faults)))
    return rows


def _processes(info: RunInfo) -> str:
    """How many, and under how many configs."""
    configs = len(info.configs)
    under = "" if configs == 1 else f", {info.processes_per_config} under each of {configs} configs"
    return f"{configs * info.processes_per_config} fresh processes{under}"


def _softwares(run: Run) -> str:
    """The software of the processes; of each config where they differ."""
    found = {w.config.id: software(w.machine) for w in reversed(run.info.processes) if w.machine}
    if len(set(found.values())) < 2:
        return next(iter(found.values()), "unknown")
    return "; ".join(f"{config}: {text}" for config, text in reversed(found.items()))


def environment(run: Run) -> list[tuple[str, str]]:
    """Host and first process, all that is known of them, for a bug report."""
    machine = next((w.machine for w in run.info.processes if w.machine), {})
    return [*flattened("host", run.info.host), *flattened("", machine)]


def flattened(prefix: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    """A nested record as rows: names joined by dots, values as JSON."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict):
            rows += flattened(key, value)
        else:
            rows.append((key, value if isinstance(value, str) else json.dumps(value)))
    return rows


def machine_line(host: dict[str, Any]) -> str:
    """Processor, cores and memory in a few words."""
    memory = f"{host.get('memory_bytes', 0) / 2**30:.0f} GiB"
    return f"{host.get('cpu', '?')}, {host.get('cores_logical', '?')} cores, {memory}"


def software(machine: dict[str, object]) -> str:
    """Versions, threads and instruction set in a few words."""
    if not machine:
        return "unknown"
    return (
        f"PyTorch {machine['torch_version']}, Python {machine['python_version']},"
        f" NumPy {machine['numpy_version']}, CPU threads: {machine['threads']},"
        f" {machine['cpu_capability']}"
    )
