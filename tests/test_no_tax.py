"""The benchmark of the harness's overhead: the parts of a run's time, and its bare loop."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from xorbench.records import loading
from xorbench.records.schema.run import Run

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def no_tax(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("no_tax")


def test_the_parts_of_a_run_add_up(quick_folder: Path, no_tax: ModuleType) -> None:
    """For a run with two seconds of start-up and one second after its last epoch."""
    folder = (quick_folder / "latest").resolve()
    run = loading.load(folder)
    last = (folder / "epochs.jsonl").stat().st_mtime
    ready = last - max(line.at_s for line in run.epochs)
    *parts, whole = no_tax.parts_of(folder, ready - 2, last + 1).values()
    assert sum(parts) == pytest.approx(whole)
    assert min(parts) > 0
    assert parts[0] == pytest.approx(2)
    assert parts[2] == pytest.approx(sum(x.epoch_s for x in run.epochs if not x.warmup))
    assert parts[5] == pytest.approx(1)


def test_the_bare_loop_and_the_harness_have_identical_bits(
    quick_run: Run, no_tax: ModuleType
) -> None:
    """Its first epochs have the digests of the quick run."""
    loop, first = no_tax.bare(), quick_run.trainings[0]
    assert first.case.id == "cpu-loader-b128-pin0-drop1-w0-s0"
    assert [next(loop)[1] for _ in range(2)] == first.epoch_digests[:2]
