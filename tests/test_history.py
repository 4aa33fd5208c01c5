"""The history of the runs: every change is the verdict of `compare` on neighbours."""

import json
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from conftest import call_in

from xorbench.errors import BadOption
from xorbench.records.schema.run import Run
from xorbench.report import page
from xorbench.report.content import draw
from xorbench.xor.compare.comparison import compare
from xorbench.xor.report import history


def later(run: Run, name: str, times: float = 1.0) -> Run:
    """A copy of the run a day later, with every epoch longer by a factor."""
    trainings = [
        msgspec.structs.replace(t, epoch_s=[times * s for s in t.epoch_s]) for t in run.trainings
    ]
    info = msgspec.structs.replace(run.info, id=name, started=f"2099-{name}")
    return msgspec.structs.replace(run, info=info, trainings=trainings)


def test_changes_are_marked_by_the_rule_of_compare(quick_run: Run) -> None:
    """Same, slower, then faster: the changes are the verdicts of `compare`, in order of time."""
    runs = [quick_run, later(quick_run, "b"), later(quick_run, "c", 4), later(quick_run, "d")]
    shuffled = [runs[index] for index in (2, 0, 3, 1)]
    frame = history.content(shuffled).sections[1].frame
    case = quick_run.trainings[0].case.id
    own = frame[frame["case"] == case]
    rules = [
        next(r.verdict for r in compare(a, b).variants if r.subject == case)
        for a, b in pairwise(runs)
    ]
    assert own["change"].tolist() == ["", *rules]
    assert own["÷ before"].tolist()[2] == pytest.approx(4)
    assert rules[1:] == ["slower", "faster"]


def test_a_case_is_compared_with_its_previous_run(quick_run: Run) -> None:
    """A run without the case is skipped."""
    case = quick_run.trainings[0].case
    without = later(quick_run, "b")
    left = [t for t in without.trainings if t.case != case]
    runs = [quick_run, msgspec.structs.replace(without, trainings=left), later(quick_run, "c")]
    frame = history.history(runs)
    assert frame[frame["case"] == case.id]["÷ before"].tolist()[1] == pytest.approx(1)


def test_a_different_recipe_is_not_compared(quick_run: Run) -> None:
    """The reason replaces the change."""
    other = later(quick_run, "b")
    info = msgspec.structs.replace(other.info, recipe_sha256="0" * 64)
    frame = history.history([quick_run, msgspec.structs.replace(other, info=info)])
    assert "recipes differ" in frame["change"].tolist()[1]


def test_no_line_joins_incomparable_runs(quick_run: Run) -> None:
    """A different calibration version starts a new line; injected faults are noted."""
    other = later(quick_run, "b")
    info = msgspec.structs.replace(other.info, calibration_version=99, faults=["delay:ms=1"])
    runs = [quick_run, msgspec.structs.replace(other, info=info)]
    frame = history.history(runs)
    own = frame[frame["case"] == quick_run.trainings[0].case.id]
    assert [len(part) for part in history._comparable(own)] == [1, 1]
    assert own["note"].tolist() == ["", "injected: delay:ms=1"]
    same = history.history([quick_run, later(quick_run, "b")])
    assert [
        len(part) for part in history._comparable(same[same["case"] == own["case"].iloc[0]])
    ] == [2]


def test_the_page_marks_the_changes(quick_run: Run) -> None:
    """The answer counts the changes, and the picture is drawn."""
    content = history.content([quick_run, later(quick_run, "b", 4)])
    html = page.html(content, {p.name: draw(p) for p in content.pictures})
    assert "2 slower and 0 faster" in html
    assert html.count("<svg") == 1


def test_an_undecided_case_is_not_a_yes(quick_run: Run) -> None:
    """Runs of one process have no interval, so the answer is inconclusive."""
    first_process = [t for t in quick_run.trainings if t.process == quick_run.trainings[0].process]
    one = msgspec.structs.replace(quick_run, trainings=first_process)
    answer = history.content([one, later(one, "b")]).answers[0]
    assert (answer.outcome, answer.word) == ("inconclusive", "Inconclusive")


def test_the_history_is_of_every_finished_run(quick_folder: Path, copied: Path) -> None:
    """A damaged folder is reported and skipped, without effect on the exit code."""
    second = copied.parent / "99999999T000000Z-aaaaaa"
    second.mkdir()
    (second / "run.json").write_text("{")
    done = call_in(copied.parent.parent.parent, "report", "--history", "--json")
    assert done.returncode == 0, done.stderr
    assert "skipped: " in done.stderr
    rows = json.loads(done.stdout)["tables"]["history"]
    assert {row["run"] for row in rows} == {(quick_folder / "latest").resolve().name}


def test_history_with_a_run_or_without_any_is_refused(tmp_path: Path) -> None:
    """A RUN with --history, and a folder without runs, are one line each."""
    from xorbench.xor.report_again import history as verb

    with pytest.raises(BadOption, match="no finished run"):
        verb(tmp_path)
    done = call_in(tmp_path, "report", "--history", "latest")
    assert done.returncode == 2
    assert "give no RUN" in done.stderr
