"""What the bench of the harness's own cost counts as measured."""

import importlib.util
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from xorbench.observe.records.run import Run

BENCH = Path(__file__).parents[1] / "bench" / "no_tax.py"


@pytest.fixture(scope="module")
def no_tax() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("no_tax", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_epochs_warm_ups_and_calibrations_are_measured(quick_run: Run, no_tax: ModuleType) -> None:
    """A round's calibrations count once for all cases of a process: the cold one and three.

    Where round 0 begins with an epoch, it has one more.
    """
    epochs_s = [msgspec.structs.replace(line, epoch_s=0.01) for line in quick_run.epochs]
    beside = [msgspec.structs.replace(x, calibration_s=0.004) for x in quick_run.calibrations]
    run = msgspec.structs.replace(quick_run, epochs=epochs_s, calibrations=beside)
    trainings, processes, epochs, warmups = 4, 2, 100, 2
    assert processes * epochs * 4 <= len(beside) <= processes * (epochs * 4 + 1)
    expected = trainings * (epochs + warmups) * 0.01 + len(beside) * 0.004
    assert no_tax.measured_s(run) == pytest.approx(expected)


def test_the_bare_loop_has_the_bits_of_the_harness(quick_run: Run, no_tax: ModuleType) -> None:
    """Its first epochs are those that the quick run recorded."""
    loop, first = no_tax.bare(), quick_run.trainings[0]
    assert first.case.id == "cpu-loader-b128-pin0-drop1-w0-s0"
    assert [next(loop)[1] for _ in range(2)] == first.epoch_digests[:2]
