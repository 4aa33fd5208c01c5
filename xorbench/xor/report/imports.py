"""The report of an imported file of pytest-benchmark."""

import pandas as pd

from xorbench.records.pytest_benchmark import Benchmark, BenchmarkFile, ImportInfo
from xorbench.report.content import Content, Section
from xorbench.report.details import flattened
from xorbench.report.text import frame_of
from xorbench.stats.intervals import pooled
from xorbench.xor.compare.imported import log_medians

ABOUT = (
    "Times of rounds from the file; an interval is Student's t between processes (none with one"
    " process). The file has no epoch digests, calibration times or weights, so nothing is judged,"
    " and `accuracy` and `weights sha256` are its claims."
)


def content(info: ImportInfo) -> Content:
    """The content of the report."""
    frame, file = table(info.imported), info.imported
    heading = [
        ("imported", info.id + (f" ({info.name})" if info.name else "")),
        ("command", info.command),
        ("file", f"{info.source}, of pytest-benchmark {file.version}"),
        ("started", info.started),
        ("machine", _machine(file)),
        ("not in it", "epoch digests, calibration times, weights: nothing can be checked"),
    ]
    if file.xorbench:
        origin = file.xorbench
        heading.insert(3, ("exported from", f"run {origin.run}: {origin.command}"))
        if origin.faults:
            heading.append(("INJECTED FAULTS", "; ".join(origin.faults)))
    return Content(
        id=info.id,
        schema_version=info.schema_version,
        anonymous=info.anonymous,
        heading=heading,
        sections=[
            Section("benchmarks", "Imported benchmarks", frame, ABOUT, csv=frame, terminal=True)
        ],
        pictures=[],
        verdicts=[],
        environment=[
            *flattened("machine", file.machine_info),
            *flattened("commit", file.commit_info),
        ],
        again=[info.command],
    )


def _machine(file: BenchmarkFile) -> str:
    """Processor, system and Python, if the file names them."""
    cpu, info = file.machine_info.get("cpu"), file.machine_info
    brand = cpu.get("brand_raw") if isinstance(cpu, dict) else None
    parts = (brand, info.get("system"), info.get("machine"))
    version = info.get("python_version")
    return ", ".join([str(p) for p in parts if p] + ([f"Python {version}"] if version else []))


def table(file: BenchmarkFile) -> pd.DataFrame:
    """One row per benchmark; times in seconds."""
    medians = pooled({b.fullname: log_medians(b) for b in file.benchmarks})
    rows = []
    for benchmark in file.benchmarks:
        stats, median = benchmark.stats, medians[benchmark.fullname]
        rows.append(
            {
                "benchmark": benchmark.fullname,
                "group": benchmark.group,
                "median (s)": median,
                "IQR (%)": 100 * stats.iqr / stats.median,
                "rounds": stats.rounds,
                "processes": median.processes,
                "samples/s": _real(benchmark, "samples_per_s"),
                "accuracy": _word(benchmark, "accuracy"),
                "weights sha256": _word(benchmark, "weights_sha256"),
            }
        )
    return frame_of(rows)


def _real(benchmark: Benchmark, key: str) -> float | None:
    value = benchmark.extra_info.get(key)
    return float(value) if isinstance(value, int | float) else None


def _word(benchmark: Benchmark, key: str) -> str:
    value = benchmark.extra_info.get(key, "")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
