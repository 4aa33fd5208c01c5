"""Detailed recording notes seeds, generators without a seed, and the lines of tensors."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from xorbench.programs.command_run import SITE
from xorbench.records.trace import TracedSource, TraceEnd, TraceEvent, TraceStep, opened

PROGRAM = """
import random
import numpy as np
import torch
from torch import nn
early = nn.Linear(2, 2)
torch.manual_seed(0)
random.seed(1)
np.random.seed(2)
late = nn.Linear(2, 1)
own = random.Random()
rng = np.random.default_rng(None)
seeded = random.Random(3), np.random.default_rng(3)
optimizer = torch.optim.SGD([*early.parameters(), *late.parameters()], lr=0.1)
memory = torch.empty(4, 1)
count = 0
for step in range(3):
    count += 1
    if step == 2:
        torch.manual_seed(4)
    batch = torch.ones(4, 2)
    batch = batch + own.random()
    target = torch.empty(4, 1)
    loss = (late(early(batch)) - target).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    filled = torch.empty(4).fill_(1).sum()
print(random.random(), np.random.rand(), torch.rand(1).item())
np.random.seed()
torch.seed()
"""
LINES = {text: number for number, text in enumerate(PROGRAM.splitlines(), 1)}


def line(start: str) -> str:
    """The place of the first line that starts so."""
    number = next(n for text, n in LINES.items() if text.strip().startswith(start))
    return f"program.py:{number}"


def run(folder: Path, **options: object) -> tuple[list[TraceStep], TraceEnd, str]:
    """The record of the program with these options, and its output."""
    (folder / "records").mkdir(exist_ok=True)
    (folder / "program.py").write_text(dedent(PROGRAM))
    variables = {
        **os.environ,
        "PYTHONPATH": str(SITE),
        "XORBENCH_RECORD": str(folder / "records"),
        "XORBENCH_RECORD_OPTIONS": json.dumps({"root": str(folder), **options}),
    }
    words = [sys.executable, "program.py"]
    done = subprocess.run(
        words, cwd=folder, env=variables, capture_output=True, text=True, check=True
    )
    (path,) = (folder / "records").glob("*[0-9].jsonl")
    trace = opened(path)
    end = trace.end()
    assert end is not None
    return list(trace.steps()), end, done.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TraceStep], TraceEnd, str]:
    """The record of the program with detailed recording of all steps."""
    folder = tmp_path_factory.mktemp("origins")
    return run(folder, detail=(0, 2), values_bytes=1 << 20)


Recorded = tuple[list[TraceStep], TraceEnd, str]


def of_kind(recorded: Recorded, kind: str) -> list[TracedSource]:
    """The notes of a kind."""
    return [source for source in recorded[1].sources if source.kind == kind]


def event(recorded: Recorded, step: int, kind: str, *, name: str = "") -> list[TraceEvent]:
    """The events of a kind in a step, with this name if one is given."""
    events = recorded[0][step].events
    return [e for e in events if e.kind == kind and name in e.more.name]


def test_each_seed_is_noted_with_its_line_and_step(recorded: Recorded) -> None:
    """The second seed of PyTorch is set before step 2."""
    seeds = {(s.name, s.step): s.where for s in of_kind(recorded, "seeded")}
    assert seeds == {
        ("torch cpu", 0): line("torch.manual_seed(0)"),
        ("python", 0): line("random.seed(1)"),
        ("numpy", 0): line("np.random.seed(2)"),
        ("torch cpu", 2): line("torch.manual_seed(4)"),
        ("numpy", 3): line("np.random.seed()"),
        ("torch cpu", 3): line("torch.seed()"),
    }


def test_a_seed_without_a_value_differs_in_every_run(recorded: Recorded) -> None:
    """The operating system gives it, so two have different digests."""
    a, b = (s.digest for s in of_kind(recorded, "seeded") if s.step == 3)
    assert a != b


def test_generators_without_a_seed_are_noted_and_others_are_not(recorded: Recorded) -> None:
    """Python's, NumPy's and PyTorch's, at the lines that make or seed them."""
    places = {source.where for source in of_kind(recorded, "unseeded")}
    without_value = {line("np.random.seed()"), line("torch.seed()")}
    assert places == {line("own = "), line("rng = "), *without_value}


def test_a_weight_has_its_line_and_whether_it_precedes_the_seed(recorded: Recorded) -> None:
    """The first layer is made before the seed, the second after it."""
    weights = [e.more for e in event(recorded, 0, "parameter")]
    assert {(more.where, more.unseeded) for more in weights} == {
        (line("early = "), True),
        (line("late = "), False),
    }


def test_a_batch_has_the_line_that_made_it(recorded: Recorded) -> None:
    """Between two steps of detailed recording."""
    (batch,) = [e for e in event(recorded, 1, "batch") if e.identity == "c0[0]"]
    assert batch.more.made == line("batch = batch + own")


def test_memory_that_is_read_before_it_is_written_is_noted(recorded: Recorded) -> None:
    """`target` is never written; memory that is filled is not noted."""
    noted = {
        (e.more.name.partition(".")[2][:3], e.more.uninitialized)
        for step in recorded[0]
        for e in step.events
        if e.more.uninitialized
    }
    assert noted <= {("sub", line("target = ")), ("rsu", line("target = "))}


def test_weights_are_registered_in_each_step(recorded: Recorded) -> None:
    """A weight is never recorded as data of an operator."""
    shapes = [e.more.shape for step in (0, 1, 2) for e in event(recorded, step, "data")]
    assert [2, 2] not in shapes


def test_state_in_plain_variables_is_noted_at_the_end(tmp_path: Path) -> None:
    """A check of a resume notes it after the main file has ended."""
    (tmp_path / "records").mkdir()
    _, end, _ = run(tmp_path, state=True)
    assert ("state", "count", line("count = 0")) in {
        (source.kind, source.name, source.where) for source in end.sources
    }


def test_the_notes_do_not_change_the_numbers(recorded: Recorded, tmp_path: Path) -> None:
    """The generators give the same numbers without them, and there are no notes."""
    _, end, output = run(tmp_path)
    assert output == recorded[2]
    assert not end.sources
