"""Recording does not change the bits of a training."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import once
from torch import Tensor

from xorbench.programs.command_run import SITE
from xorbench.records import trace as traces
from xorbench.records.trace import TraceStep

PROGRAMS = Path(__file__).parent / "bits_programs.py"
DEADLINE_S = 300
EAGER = ["plain", "dropout", "checkpointing", "lbfgs", "sparse"]
COMPILED = ["compiled", "fullgraph", "module_compile", "dynamic"]
STEPS = {"lbfgs": 3, "sparse": 4, "dynamic": 4}  # the others have 5
LEVELS: dict[str, dict[str, Any]] = {
    "default": {},
    "detail": {"detail": (0, 1_000), "values_bytes": 1 << 20, "state": True, "keep": (1,)},
    "clock": {"level": "clock"},
}
Tensors = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Ran:
    """The results of a process that trained."""

    folder: Path

    @property
    def tensors(self) -> Tensors:
        """The saved tensors."""
        saved: Tensors = torch.load(self.folder / "tensors.pt")
        return saved

    @property
    def done(self) -> dict[str, Any]:
        """The exit code and the output."""
        done: dict[str, Any] = json.loads((self.folder / "done.json").read_text())
        return done

    @property
    def compiled(self) -> dict[str, Any]:
        """The number of compiled graphs per program, with recompilations, and of graph breaks."""
        counts = json.loads(self.done["stdout"])
        return {kind: counts[kind] for kind in ("graphs", "stats", "graph_break")}


def train(
    folder: Path, cache: Path, names: list[str], level: str | None, **environment: str
) -> None:
    """Train in a fresh process, with the recorder if a level is given."""
    (folder / "records").mkdir()
    values = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), **environment}
    values["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool, whose processes import PyTorch
    if level is not None:
        values["PYTHONPATH"] = str(SITE)
        values["XORBENCH_RECORD"] = str(folder / "records")
        values["XORBENCH_RECORD_OPTIONS"] = json.dumps(LEVELS[level])
    done = subprocess.run(
        [sys.executable, str(PROGRAMS), str(folder), *names],
        env=values,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    result = {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    (folder / "done.json").write_text(json.dumps(result))


def programs(level: str) -> list[str]:
    """The programs of a level: all, but only eager ones for `clock`, without module hooks."""
    return EAGER if level == "clock" else EAGER + COMPILED


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The results of every program without the recorder."""
    names = EAGER + COMPILED
    return Ran(
        once(
            tmp_path_factory,
            "bits-bare",
            lambda folder: train(folder, folder / "cache", names, None),
        )
    )


@pytest.fixture(scope="module", params=LEVELS)
def recorded(
    request: pytest.FixtureRequest, bare: Ran, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Ran]:
    """The results of every program with the recorder, at each level."""
    level = request.param
    folder = once(
        tmp_path_factory,
        f"bits-{level}",
        lambda folder: train(folder, bare.folder / "cache", programs(level), level),
    )
    return level, Ran(folder)


def differing(a: Tensors, b: Tensors) -> list[str]:
    """The programs whose tensors have different bits."""
    return [name for name in b if not _same(a[name], b[name])]


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    bits = [[t.contiguous().view(-1).view(torch.uint8) for t in tensors] for tensors in (a, b)]
    return len(a) == len(b) and all(map(torch.equal, *bits))


def test_recording_does_not_change_the_bits(bare: Ran, recorded: tuple[str, Ran]) -> None:
    """Losses, gradients, parameters, buffers, states, and the next random number are identical."""
    level, ran = recorded
    assert list(ran.tensors) == programs(level)
    assert differing(bare.tensors, ran.tensors) == []


def test_nothing_more_is_compiled(bare: Ran, recorded: tuple[str, Ran]) -> None:
    """The numbers of graphs and recompilations are the same, and there is no graph break."""
    level, ran = recorded
    if level != "clock":
        assert ran.compiled == bare.compiled
    assert ran.compiled["graph_break"] == {}


def test_recording_does_not_change_exit_code_and_output(
    bare: Ran, recorded: tuple[str, Ran]
) -> None:
    """Exit code, standard output and standard error are the same."""
    level, ran = recorded
    assert (ran.done["code"], bare.done["code"]) == (7, 7)
    assert ran.done["stderr"] == bare.done["stderr"]
    if level != "clock":
        assert ran.done["stdout"] == bare.done["stdout"]


def test_every_step_was_recorded(recorded: tuple[str, Ran]) -> None:
    """The recorder worked without an error, so the comparison is valid."""
    level, ran = recorded
    (trace,) = traces.recorded(ran.folder / "records")
    steps = [line for line in trace.lines() if isinstance(line, TraceStep)]
    assert len(steps) == sum(STEPS.get(name, 5) for name in programs(level))
    assert [step.errors for step in steps if step.errors] == []


def test_a_recorder_that_uses_a_generator_is_detected(bare: Ran, tmp_path: Path) -> None:
    """With an injected random draw of the recorder, the programs differ."""
    train(tmp_path, tmp_path, ["plain", "dropout"], "default", INJECTED_FAULT="draw")
    ran = Ran(tmp_path)
    assert differing(bare.tensors, ran.tensors) == ["plain", "dropout"]


def test_traced_hooks_are_detected(bare: Ran, tmp_path: Path) -> None:
    """With hooks that change Python state while they are traced, more graphs are compiled."""
    train(tmp_path, tmp_path, ["dynamic"], "default", INJECTED_FAULT="touch")
    ran = Ran(tmp_path)
    assert ran.compiled["graphs"]["dynamic"] > bare.compiled["graphs"]["dynamic"]
