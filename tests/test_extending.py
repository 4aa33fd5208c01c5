"""docs/extending.md is true: every diff of it applies to the package, and what it adds works."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import xorbench

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
DIFFS = re.findall(r"^```diff\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def hunks(diff: str) -> Iterator[tuple[str, str, str]]:
    """File, text before and text after, of each part of a diff."""
    for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        name, *lines = part.splitlines()
        old = "\n".join(line[1:] for line in lines if line[0] in " -")
        new = "\n".join(line[1:] for line in lines if line[0] in " +")
        yield name, old, new


def apply(diff: str, root: Path) -> None:
    """Change the files of a copy; each place must be found, and found once."""
    for name, old, new in hunks(diff):
        text = (root / name).read_text()
        assert text.count(old) == 1, f"{name} holds {text.count(old)} times:\n{old}"
        (root / name).write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package that has all that the page adds."""
    root = tmp_path_factory.mktemp("extended")
    package = Path(xorbench.__file__).parent
    shutil.copytree(package, root / "xorbench", ignore=shutil.ignore_patterns("__pycache__"))
    for diff in DIFFS:
        apply(diff, root)
    return root


@pytest.fixture(scope="module")
def results(extended: Path) -> Path:
    """One run of four cases with the new setting, the new fault planted."""
    done = _python(
        extended, "-m", "xorbench", "run", "--quick", "--epochs", "2", "--repeats", "1",
        "--drop-last", "true", "--engines", "loader,quiet", "--momentum", "0,0.9",
        "--plant", "no-bias:cases=*momentum*",
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return (extended / "results" / "latest").resolve()


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_setting_is_one_row(results: Path) -> None:
    """The new axis is in the ids, and its change of the bits is checked."""
    cases = json.loads((results / "run.json").read_text())["cases"]
    assert {case["momentum"] for case in cases} == {0.0, 0.9}
    lines = json.loads((results / "verdicts.json").read_text())
    momentum = [v for v in lines if v["subject"].startswith("momentum 0.0,0.9")]
    assert [v["check"] for v in momentum] == ["invariance"] * 2


def test_an_engine_is_one_row(results: Path) -> None:
    """It trains, and is held to the loader's bits."""
    lines = json.loads((results / "verdicts.json").read_text())
    engines = [v for v in lines if v["subject"].startswith("engine loader,quiet")]
    assert {v["outcome"] for v in engines} == {"pass"}


def test_a_check_is_one_row(results: Path) -> None:
    """It judges every case."""
    lines = json.loads((results / "verdicts.json").read_text())
    assert sum(v["check"] == "falling" for v in lines) == 4


def test_a_table_and_a_plot_appear_by_their_rows(results: Path) -> None:
    """In the text and on the page."""
    assert "## Slowest epochs" in (results / "report.md").read_text()
    html = (results / "report.html").read_text()
    assert 'id="table-slowest-epochs"' in html
    assert 'id="figure-last-losses"' in html
    assert (results / "plots" / "last-losses.svg").exists()


def test_a_fault_is_planted_by_its_name(results: Path) -> None:
    """Where it was planted the training starts from other weights."""
    lines = json.loads((results / "verdicts.json").read_text())
    assert [v["outcome"] for v in lines if v["check"] == "inputs"] == ["fail"]


def test_a_lesson_a_device_and_a_format_are_one_row(extended: Path) -> None:
    """Each is found in its registry, and does what it says."""
    script = (
        "import pandas as pd;"
        "from xorbench.lessons.registry import LESSONS;"
        "from xorbench.plan.case import read_device;"
        "from xorbench.report.text import FORMATS;"
        "print(LESSONS['zero weights'].try_it().answer);"
        "print(read_device('--devices', 'privateuseone:1'));"
        "print(FORMATS['html'](pd.DataFrame({'a': ['<b>']})))"
    )
    done = _python(extended, "-c", script)
    assert done.stdout.startswith("holds\nprivateuseone:1\n"), done.stderr
    assert "&lt;b&gt;" in done.stdout


def test_a_place_that_is_not_there_is_seen(tmp_path: Path) -> None:
    """The test itself can fail: a diff that does not fit is no pass."""
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(AssertionError, match="holds 0 times"):
        apply("--- a.py\n-x = 2\n+x = 3\n", tmp_path)
