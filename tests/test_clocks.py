"""A process's clock compared with the orchestrator's, and duplicate or damaged lines."""

import json
from functools import partial
from pathlib import Path

import msgspec
import pytest
from conftest import with_changed_epochs

from xorbench.errors import BadFile
from xorbench.records import loading
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import EpochLine
from xorbench.xor.analysis import clocks
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import by_variant, calibrations, log_epoch, normalized
from xorbench.xor.checks.references import clock


def with_times(run: Run, **changes: float) -> Run:
    """The run with the times of its first training's epochs multiplied."""
    first = run.trainings[0]

    def scaled(line: EpochLine) -> EpochLine:
        if (line.process, line.case) != (first.process, first.case.id) or line.warmup:
            return line
        values = {name: getattr(line, name) * factor for name, factor in changes.items()}
        return msgspec.structs.replace(line, **values)

    return with_changed_epochs(run, scaled)


def flaws(run: Run) -> str:
    """The flaws of the times of the first training."""
    return "; ".join(clocks.flaws(Evidence(run).epochs(run.trainings[0])))


def test_an_invalid_calibration_gives_no_normalized_time(quick_run: Run) -> None:
    """A calibration time above its wait is not used for normalized times."""
    lines = [
        msgspec.structs.replace(line, calibration_s=10 * line.waited_s)
        for line in quick_run.calibrations
    ]
    edited = Evidence(msgspec.structs.replace(quick_run, calibrations=lines))
    assert normalized(edited) == {}
    assert calibrations(edited) == {}
    assert len(by_variant(edited, log_epoch)) == 2


def test_a_correct_clock_has_no_flaw(quick_run: Run) -> None:
    """No case of a real run has a flaw."""
    assert flaws(quick_run) == ""
    assert {v.outcome for v in clock("clock", Evidence(quick_run))} == {"pass"}


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"epoch_s": 0.1, "clock_s": 0.1}, "its clock advanced"),
        ({"clock_s": 0.9}, "its clock advanced"),
        ({"epoch_s": 0.1}, "longer than reported"),
        ({"epoch_s": 2.0}, "its answer arrived after"),
    ],
)
def test_a_wrong_clock_is_reported(
    changes: dict[str, float], fragment: str, quick_run: Run
) -> None:
    """A slow clock, and an epoch that ends too early or too late, are flaws."""
    run = with_times(quick_run, **changes)
    assert fragment in flaws(run)
    assert [v.outcome for v in clock("clock", Evidence(run))] == ["fail", "pass"]


def test_a_long_epoch_may_wait_in_proportion(quick_run: Run) -> None:
    """4% of an epoch of a second may lie outside it; 8% may not."""
    for share, flawed in ((0.04, False), (0.08, True)):
        change = partial(msgspec.structs.replace, epoch_s=1.0, waited_s=1.0 + share)
        longer = with_changed_epochs(quick_run, change)
        assert bool(flaws(longer)) == flawed


def test_a_slow_clock_of_the_calibration_is_reported(quick_run: Run) -> None:
    """A calibration that reports half of its time would double every normalized time."""
    lines = [
        msgspec.structs.replace(line, waited_s=line.waited_s + line.calibration_s)
        if line.process == "p0"
        else line
        for line in quick_run.calibrations
    ]
    slow = msgspec.structs.replace(quick_run, calibrations=lines)
    result = list(clock("clock", Evidence(slow)))
    assert [v.subject for v in result if v.outcome == "fail"] == ["calibration in p0"]


def test_missing_epochs_are_not_a_pass(quick_run: Run) -> None:
    """Without recorded epochs the clock check is inconclusive."""
    result = clock("clock", Evidence(msgspec.structs.replace(quick_run, epochs_by_training={})))
    assert {v.outcome for v in result} == {"inconclusive"}


# Lines


def damaged(folder: Path, name: str, change: object) -> str:
    """The message of loading after `change` has edited the lines of a file."""
    path = folder / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))  # type: ignore[operator]
    with pytest.raises(BadFile) as caught:
        loading.load(folder)
    return caught.value.message.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("results.jsonl", "occurs twice, first in results.jsonl:1"),
        ("epochs.jsonl", "epoch 0 of cpu-loader-b128-pin0-drop"),
        ("float64.jsonl", "occurs twice, first in float64.jsonl:1"),
        ("golden_inputs.jsonl", "seed 0 in p0 occurs twice, first in golden_inputs.jsonl:1"),
    ],
)
def test_a_doubled_line_is_refused(name: str, fragment: str, copied: Path) -> None:
    """A duplicate line is rejected, because it would count as a process."""
    count = len((copied / name).read_text().splitlines())
    message = damaged(copied, name, lambda lines: [*lines, lines[0]])
    assert message.startswith(f"{name}:{count + 1}: damaged: ")
    assert fragment in message


@pytest.mark.parametrize(
    "name",
    [
        "results.jsonl",
        "epochs.jsonl",
        "calibrations.jsonl",
        "float64.jsonl",
        "system_samples.jsonl",
    ],
)
def test_a_line_of_another_run_is_refused(name: str, copied: Path) -> None:
    """A line of a different run is rejected, also with an identical plan."""

    def change(lines: list[str]) -> list[str]:
        line = json.loads(lines[-1]) | {"run": "20250101T000000Z-abcdef"}
        return [*lines[:-1], json.dumps(line) + "\n"]

    assert "belongs to run 20250101T000000Z-abcdef" in damaged(copied, name, change)


def test_a_missing_epoch_is_seen(copied: Path) -> None:
    """A gap in the epochs is rejected."""
    message = damaged(copied, "epochs.jsonl", lambda lines: [*lines[:40], *lines[41:]])
    assert " follows " in message


def test_a_training_without_its_last_epoch_is_refused(copied: Path) -> None:
    """A training with fewer epochs than its recipe is rejected."""
    message = damaged(copied, "epochs.jsonl", lambda lines: lines[:-1])
    assert message.endswith("damaged: 99 epochs of 100")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("epochs.jsonl", {"weights": "00"}),
        ("epochs.jsonl", {"weights": "zz"}),
        ("epochs.jsonl", {"weights": None}),
        ("epochs.jsonl", {"weights": "00" * 68}),
        ("epochs.jsonl", {"waited_s": None}),
        ("epochs.jsonl", {"waited_s": -5.0}),
        ("epochs.jsonl", {"clock_s": None}),
        ("epochs.jsonl", {"epoch_s": 0.0}),
        ("calibrations.jsonl", {"calibration_s": 0.0}),
        ("calibrations.jsonl", {"process": "p9"}),
        ("calibrations.jsonl", {"at_s": None}),
        ("float64.jsonl", {"losses": [1.0]}),
        ("float64.jsonl", {"error_ulps": []}),
        ("float64.jsonl", {"error_ulps": [-1.0] * 100}),
        ("float64.jsonl", {"predictions": "1"}),
        ("float64.jsonl", {"weights": ["zz"] * 100}),
        ("float64.jsonl", {"key": [["seed", [1, 2]]]}),
        ("results.jsonl", {"predictions": "1"}),
        ("results.jsonl", {"test": {"correct": 600, "total": 500}}),
        ("golden_inputs.jsonl", {"details": []}),
        ("golden_inputs.jsonl", {"process": "p9"}),
        ("golden_inputs.jsonl", {"seed": 7}),
    ],
)
def test_a_changed_value_is_refused(name: str, change: dict[str, object], copied: Path) -> None:
    """Each changed value is reported with file and line, without a traceback."""

    def changed(lines: list[str]) -> list[str]:
        line = json.loads(lines[-1]) | change
        return [*lines[:-1], json.dumps(line) + "\n"]

    message = damaged(copied, name, changed)
    assert ".jsonl:" in message
    assert "damaged: " in message
