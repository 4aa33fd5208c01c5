"""Details that several reports show: the machine, the software, sizes, and outcomes of checks."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from xorbench.records.nested import flat
from xorbench.verdicts import Verdict


def flattened(prefix: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    """A nested record as rows: names joined by dots, values as JSON."""
    return list(flat(values, f"{prefix}." if prefix else "", _json).items())


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def machine_line(host: dict[str, Any]) -> str:
    """Processor, cores and memory as text."""
    memory = f"{host.get('memory_bytes', 0) / 2**30:.0f} GiB"
    return f"{host.get('cpu', '?')}, {host.get('cores_logical', '?')} cores, {memory}"


def software(machine: dict[str, object]) -> str:
    """Versions, threads and instruction set as text."""
    if not machine:
        return "unknown"
    return (
        f"PyTorch {machine['torch_version']}, Python {machine['python_version']},"
        f" NumPy {machine['numpy_version']}, CPU threads: {machine['threads']},"
        f" {machine['cpu_capability']}"
    )


def mib(size: int | None) -> float | None:
    """Bytes as MiB."""
    return None if size is None else size / 2**20


def checks(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The number of subjects of each check by outcome."""
    frame = pd.DataFrame(
        {"check": [v.check for v in verdicts], "outcome": [v.outcome for v in verdicts]}
    )
    outcomes = ["pass", "fail", "inconclusive", "skipped"]
    if frame.empty:
        return pd.DataFrame(columns=["check", *outcomes])
    counts = pd.crosstab(frame["check"], frame["outcome"])
    counts = counts.reindex(index=frame["check"].unique(), columns=outcomes, fill_value=0)
    return counts.rename_axis("check").rename_axis(None, axis="columns").reset_index()
