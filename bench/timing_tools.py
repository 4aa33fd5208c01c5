"""One epoch of one case as a task for tools that time Python code and commands."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from timing_task import ROUNDS

TASK: Final = Path(__file__).with_name("timing_task.py")


@dataclass(frozen=True)
class Tool:
    """A tool: how it saves a run of the task, and how it judges two runs.

    Attributes:
        measure: function that writes a run to a file, with epochs stretched by a percentage.
        alarm: whether it calls B slower than A at a threshold in per cent.
        gate_text: its gate as text, with `{}` for the per cent.
        is_installed: whether it is installed.
    """

    measure: Callable[[Path, int], Path]
    alarm: Callable[[Path, Path, float], bool]
    gate_text: str
    is_installed: Callable[[], bool]

    def gate(self, percent: float) -> str:
        """Its gate as text."""
        return self.gate_text.format(f"{percent:g}")


def _pytest_benchmark(out: Path, stretch: int) -> Path:
    _ask([sys.executable, "-m", "pytest", "-q", str(TASK), f"--benchmark-json={out}"], stretch)
    return out


def _pytest_benchmark_alarm(a: Path, b: Path, percent: float) -> bool:
    before, after = (_read(path)["benchmarks"][0]["stats"]["median"] for path in (a, b))
    return bool(after / before > 1 + percent / 100)


def _pyperf(out: Path, stretch: int) -> Path:
    out.unlink(missing_ok=True)
    few = ["--processes=3", "--values=20", "--warmups=2", "--loops=1", "--inherit-environ=STRETCH"]
    _ask([sys.executable, str(TASK), "pyperf", *few, "-o", str(out)], stretch)
    return out


def _pyperf_alarm(a: Path, b: Path, percent: float) -> bool:
    gate = f"--min-speed={percent:g}"
    return "slower" in _ask([sys.executable, "-m", "pyperf", "compare_to", gate, str(a), str(b)], 0)


def _hyperfine(out: Path, stretch: int) -> Path:
    task = f"{sys.executable} {TASK} whole"
    _ask(["hyperfine", "--runs=3", "--warmup=0", f"--export-json={out}", task], stretch)
    return out


def _hyperfine_alarm(a: Path, b: Path, percent: float) -> bool:
    before, after = (_read(path)["results"][0]["median"] for path in (a, b))
    return bool(after / before > 1 + percent / 100)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _ask(command: Sequence[str], stretch: int) -> str:
    environment = {**os.environ, "STRETCH": str(stretch)}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


TOOLS: Final = {
    "pytest-benchmark": Tool(
        _pytest_benchmark,
        _pytest_benchmark_alarm,
        f"--benchmark-compare-fail=median:{{}}% (1 process, {ROUNDS} epochs)",
        lambda: True,
    ),
    "pyperf": Tool(
        _pyperf,
        _pyperf_alarm,
        "compare_to --min-speed={} (3 processes of 20 epochs)",
        lambda: find_spec("pyperf") is not None,
    ),
    "hyperfine": Tool(
        _hyperfine,
        _hyperfine_alarm,
        f"none built in: median + {{}}% (3 whole processes of {ROUNDS} epochs)",
        lambda: shutil.which("hyperfine") is not None,
    ),
}


def installed() -> dict[str, Tool]:
    """The installed tools, with a message on standard error for each missing one."""
    for name, tool in TOOLS.items():
        if not tool.is_installed():
            print(f"{name} is not installed: skipped", file=sys.stderr)
    return {name: tool for name, tool in TOOLS.items() if tool.is_installed()}
