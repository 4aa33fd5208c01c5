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


def copied(root: Path, diffs: list[str]) -> Path:
    """A folder with a copy of the package that has what the diffs add."""
    package = Path(xorbench.__file__).parent
    shutil.copytree(package, root / "xorbench", ignore=shutil.ignore_patterns("__pycache__"))
    for diff in diffs:
        apply(diff, root)
    return root


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package that has all that the page adds."""
    return copied(tmp_path_factory.mktemp("extended"), DIFFS)


@pytest.fixture(scope="module")
def results(extended: Path) -> Path:
    """One run of four cases with the new setting, the new fault injected."""
    done = _python(
        extended, "-m", "xorbench", "run", "--quick", "--epochs", "2", "--processes", "1",
        "--drop-last", "true", "--engines", "loader,quiet", "--momentum", "0,0.9",
        "--inject", "no-bias:cases=*momentum*",
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


def test_a_config_is_one_row(results: Path) -> None:
    """The new axis is in the ids, and its change of the bits is checked."""
    cases = json.loads((results / "run.json").read_text())["cases"]
    assert {case["momentum"] for case in cases} == {0.0, 0.9}
    lines = json.loads((results / "verdicts.json").read_text())
    momentum = [v for v in lines if v["subject"].startswith("momentum 0.0,0.9")]
    assert [v["check"] for v in momentum] == ["invariance"] * 2


def test_a_config_is_trained_by_whom_it_names_alone(extended: Path) -> None:
    """The loader trains with momentum; the universal engine is skipped, with the reason."""
    done = _python(
        extended, "-m", "xorbench", "run", "--quick", "--epochs", "2", "--processes", "1",
        "--drop-last", "true", "--engines", "loader,universal", "--momentum", "0,1e-05,0.9",
        "--out", "honoured",
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    path = extended / "honoured" / "latest" / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    trained = {(t["case"]["engine"], t["case"]["momentum"]) for t in lines if "weights" in t}
    assert trained == {("loader", 0.0), ("loader", 1e-05), ("loader", 0.9), ("universal", 0.0)}
    skipped = {t["case"]["momentum"]: t["skipped"] for t in lines if "skipped" in t}
    said = "the universal engine does not honour momentum"
    assert skipped == {1e-05: f"{said} 1e-05", 0.9: f"{said} 0.9"}


def test_a_twin_that_ignores_a_config_is_refused_and_not_wrong(extended: Path) -> None:
    """With momentum there is no float64 twin, with the reason; without it there is one."""
    script = (
        "from xorbench.plan.case import Case;"
        "from xorbench.plan.honour import float64_refusal;"
        "from xorbench.plan.variants import read_case;"
        "print(float64_refusal(Case(momentum=0.9)));"
        "print(float64_refusal(Case()));"
        "cases = [Case(momentum=m, tf32=True) for m in (1e-05, 0.5)];"
        "print([read_case('A', case.id) for case in cases] == cases)"
    )
    done = _python(extended, "-c", script)
    said = "no float64 twin: it does not honour momentum 0.9\n\nTrue\n"
    assert done.stdout == said, done.stderr


def test_a_config_that_names_nobody_is_skipped_by_every_engine(tmp_path: Path) -> None:
    """The default of a row: whoever forgets the line gets no wrong training."""
    diffs = [re.sub(r"^\+ *honoured_by=.*\n", "", diff, flags=re.MULTILINE) for diff in DIFFS]
    script = (
        "from xorbench.plan.case import ENGINES, Case;"
        "from xorbench.plan.honour import unsupported_reason;"
        "from xorbench.plan.recipe import Recipe;"
        "case = lambda e: Case(engine=e, momentum=0.9);"
        "print([e for e in ENGINES if not unsupported_reason(case(e), Recipe())]);"
        "print([e for e in ENGINES if unsupported_reason(Case(engine=e), Recipe())])"
    )
    assert diffs != DIFFS
    done = _python(copied(tmp_path, diffs), "-c", script)
    assert done.stdout == "[]\n[]\n", done.stderr


def test_an_engine_is_one_row(results: Path) -> None:
    """It trains, and is checked against the loader's bits."""
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


def test_a_fault_is_injected_by_its_name(results: Path) -> None:
    """Where it was injected the training starts from other weights."""
    lines = json.loads((results / "verdicts.json").read_text())
    assert [v["outcome"] for v in lines if v["check"] == "inputs"] == ["fail"]


def test_a_lesson_and_a_format_are_one_row(extended: Path) -> None:
    """Each is found in its registry, and does what it says."""
    script = (
        "import pandas as pd;"
        "from xorbench.lessons.registry import LESSONS;"
        "from xorbench.report.text import FORMATS;"
        "print(LESSONS['zero weights'].try_it().answer);"
        "print(FORMATS['html'](pd.DataFrame({'a': ['<b>']})))"
    )
    done = _python(extended, "-c", script)
    assert done.stdout.startswith("holds\n"), done.stderr
    assert "&lt;b&gt;" in done.stdout


def test_a_place_that_is_not_there_is_seen(tmp_path: Path) -> None:
    """The test itself can fail: a diff that does not fit is no pass."""
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(AssertionError, match="holds 0 times"):
        apply("--- a.py\n-x = 2\n+x = 3\n", tmp_path)
