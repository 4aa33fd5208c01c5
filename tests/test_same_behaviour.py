"""The script that compares two versions of xorbench: its masks, and a difference found."""

import importlib
import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("same_behaviour")


def masked(script: ModuleType, name: str, text: str, *, measured: bool) -> str:
    """A text as a side masks it."""
    side = script.Side("/venv/bin/python", Path("/somewhere/a"))
    ((_, after),) = script.masked({name: text}, side.places, measured=measured).items()
    return str(after)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("run 20261128T010651Z-5bded1", "run 20261129T010651Z-5bded2"),
        ("started 2026-11-28T01:06:51+00:00", "started 2026-12-01 00:00:02 UTC"),
        ("pid 31", "pid 4711"),
        ("in /tmp/tmpx1/records", "in /tmp/tmpy_2/records"),
    ],
)
def test_dates_ids_and_paths_are_masked(script: ModuleType, a: str, b: str) -> None:
    """They differ between any two runs."""
    assert masked(script, "x", a, measured=False) == masked(script, "x", b, measured=False)


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("stdout", "took 1.52 s, 12 ms a step", "took 0.9 s, 9 ms a step"),
        ("stdout", "12,345 [9, 1.5] samples/s", "1,234.5 [8.1, 2] samples/s"),
        ("x.json", '{"epoch_s": 0.1, "loss": 0.5}', '{"epoch_s": 0.2, "loss": 0.5}'),
        ("x.jsonl", '{"epoch_s": 0.1}\n{"loss": 1}', '{"loss": 1}\n{"epoch_s": 2}'),
    ],
)
def test_times_are_masked_where_they_are_measured(
    script: ModuleType, name: str, a: str, b: str
) -> None:
    """And compared where they come from one file."""
    assert masked(script, name, a, measured=True) == masked(script, name, b, measured=True)
    assert masked(script, name, a, measured=False) != masked(script, name, b, measured=False)


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("stdout", "497/500 right", "498/500 right"),
        ("x.json", '{"loss": 0.5}', '{"loss": 0.25}'),
        ("x.jsonl", '{"digest": "ab"}', '{"digest": "cd"}'),
    ],
)
def test_losses_digests_and_counts_are_not_masked(
    script: ModuleType, name: str, a: str, b: str
) -> None:
    """Not even where times are measured."""
    assert masked(script, name, a, measured=True) != masked(script, name, b, measured=True)


def test_a_difference_is_shown_as_a_diff(script: ModuleType) -> None:
    """With the name of the output, and a missing file."""
    before = {"stdout": "a\nb", "file x": "1"}
    lines = list(script.differences(before, {"stdout": "a\nc"}))
    assert [line for line in lines if line in {"-a", "-b", "+c"}] == ["-b", "+c"]
    assert "+<missing>" in lines
    assert list(script.differences(before, dict(before))) == []


def test_one_altered_line_of_a_version_is_found(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interpreter whose output differs in one word: exit code 1, and the line; 0 if equal."""
    altered = tmp_path / "python"
    altered.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" | sed "s/bit by bit/bit/"\n')
    altered.chmod(altered.stat().st_mode | stat.S_IXUSR)
    only = ["--only", "^help$"]
    assert script.main([sys.executable, sys.executable, *only]) == 0
    assert "same" in capsys.readouterr().out
    assert script.main([sys.executable, str(altered), *only]) == 1
    output = capsys.readouterr().out
    assert "DIFFERS" in output
    assert "bit by bit" in output
