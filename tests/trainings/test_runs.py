"""Runs from Python, as in a notebook: results, their tables and how they are shown."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd
import pytest

import xorbench
from xorbench.api.runs import SettingValues
from xorbench.errors import BadOption
from xorbench.records.schema.run import Run
from xorbench.report.results import brief_html
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.axes import AXES
from xorbench.xor.matrix.case import ProcessConfig
from xorbench.xor.report.tables.columns import setting_columns

TYPED: Final = {
    kind: [axis.name for axis in AXES if axis.kind is axis_kind and axis.default != (None,)]
    for kind, axis_kind in (("bool", bool), ("integer", int))
}


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
    assert result.answers["Is it correct?"].startswith("Yes. 500 of 500")
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


def test_a_table_is_grouped_by_a_setting(trained: tuple[Path, xorbench.RunResult]) -> None:
    """Every setting is a typed column, in the data frame and read back from the CSV file."""
    _, result = trained
    for name in ("throughput", "accuracy", "determinism", "float64_error"):
        for frame in (result.table(name), pd.read_csv(result.folder / f"{name}.csv")):
            settings = frame[[axis.name for axis in AXES]]
            settings = settings.dropna(axis="columns", how="all")  # left to PyTorch in every case
            assert {kind: settings.select_dtypes(kind).columns.tolist() for kind in TYPED} == TYPED
            assert frame.groupby(["batch_size", "drop_last"])["case"].nunique().tolist() == [1, 1]
    scores = result.table("accuracy")
    assert (scores["test accuracy"] == scores["test correct"] / scores["test total"]).all()
    assert not set(result.table("costs").columns) & {"batch_size", "drop_last"}


def test_a_missing_number_leaves_the_type_of_a_setting(quick_run: Run) -> None:
    """With PyTorch's own choice of threads the column has whole numbers, and one is missing."""
    variants = Evidence(quick_run).variants
    free = replace(variants[0], config=ProcessConfig(threads=None, python="old=/usr/bin/python"))
    columns = setting_columns([free, variants[1]])
    assert (str(columns["threads"].dtype), columns["threads"].isna().tolist()) == (
        "Int64",
        [True, False],
    )
    assert columns["python"].tolist() == ["old", "auto"]


def test_a_result_is_shown_in_a_few_lines(
    trained: tuple[Path, xorbench.RunResult], tmp_path: Path
) -> None:
    """As `repr`: the answers, the verdict, the tables. As HTML for a notebook: the same."""
    folder, result = trained
    lines = repr(result).splitlines()
    assert lines[0] == f"<RunResult {result.id}>"
    assert lines[1].startswith("  Is it correct? Yes. 500 of 500")
    assert lines[-2].startswith("  PASS: checks: ")
    assert len(lines) < 10
    assert f"<li>{lines[-2].strip()}</li>" in result._repr_html_()
    shutil.copytree(folder, tmp_path / "results", symlinks=True)
    again = copy_of(tmp_path / "results" / "runs" / result.id)
    found = xorbench.compare(result.id, again, out=tmp_path / "results")
    assert repr(found).splitlines()[-2].startswith("  INCONCLUSIVE: ")
    assert "<li>INCONCLUSIVE: " in found._repr_html_()


def copy_of(run: Path) -> str:
    """The same run under a different id."""
    other = run.with_name("20200101T000000Z-copied")
    shutil.copytree(run, other)
    for path in (*other.glob("*.jsonl"), other / "run.json"):
        path.write_text(path.read_text().replace(run.name, other.name))
    return other.name


def test_a_result_escapes_its_texts_in_html() -> None:
    """Tags stay text, and code in backticks is a code element."""
    assert brief_html("RunResult", "<b>", ["use `a<b` & c"]) == (
        "<p><strong>RunResult</strong> &lt;b&gt;</p>"
        "<ul><li>use <code>a&lt;b</code> &amp; c</li></ul>"
    )


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
