"""Runs from Python, as one uses them in a notebook: nothing but the public names."""

from pathlib import Path

import pytest

import xorbench
from xorbench.errors import BadOption
from xorbench.runs import SettingValues


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xorbench.RunResult]:
    """A small run, and the folder of all runs."""
    folder = tmp_path_factory.mktemp("notebook") / "results"
    settings = {"devices": "cpu", "epochs": 60, "drop_last": [True, False]}
    return folder, xorbench.run(quick=True, processes=1, name="first", out=folder, **settings)


def test_a_run_answers_and_has_its_tables(trained: tuple[Path, xorbench.RunResult]) -> None:
    """True where it passed; frames with every digit; the command that does the same."""
    folder, result = trained
    assert result, result.text
    assert result.answers["Does it train right?"].startswith("Yes. 500 of 500")
    frame = result.table("throughput")
    assert len(frame) == 2
    assert frame["samples/s"].min() > 0
    assert {verdict.outcome for verdict in result.verdicts} == {"pass", "skipped"}
    command = "python -m xorbench run --quick --processes 1 --devices cpu --epochs 60 --drop-last"
    assert f"{command} true,false" in (result.folder / "run.json").read_text()
    assert result.folder.parent.parent == folder


def test_a_run_is_loaded_again_from_its_files(trained: tuple[Path, xorbench.RunResult]) -> None:
    """By its name, and as the newest."""
    folder, result = trained
    for text in ("first", "latest"):
        again = xorbench.load_run(text, folder)
        assert (again.id, again.text) == (result.id, result.text)


def test_two_runs_are_compared(trained: tuple[Path, xorbench.RunResult]) -> None:
    """Ratios by case, and what is slower; one run with itself is refused."""
    folder, first = trained
    second = xorbench.run(quick=True, processes=1, out=folder, devices="cpu", epochs=60)
    found = xorbench.compare("first", second.id, out=folder, threshold=0.9)
    assert found.exit_code in (0, 1, 3)
    assert set(found.ratios) == set(first.table("throughput")["case"])
    assert set(found.slower) <= set(found.ratios)
    with pytest.raises(BadOption, match="the same run"):
        xorbench.compare("first", "first", out=folder)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 3}, "run: unknown value 'batch_size'"),
        ({"batch_sizes": 0}, "--batch-sizes: must be from 1"),
        ({"seeds": []}, "run: an empty list"),
        ({"processes": 99}, "processes: must be from 1 to 64"),
        ({"baseline": "none"}, "--baseline: no baseline 'none'"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(
    settings: dict[str, SettingValues], says: str, tmp_path: Path
) -> None:
    """As on the command line."""
    with pytest.raises(BadOption, match=says):
        xorbench.run(out=tmp_path / "results", **settings)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_table_is_named(trained: tuple[Path, xorbench.RunResult]) -> None:
    """With those that there are."""
    with pytest.raises(BadOption, match="table: unknown value 'speed'"):
        trained[1].table("speed")
