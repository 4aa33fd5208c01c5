"""The history of the runs: every change is what `compare` says of two neighbours."""

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
    """The run once more, a day later, every epoch so many times as long."""
    trainings = [
        msgspec.structs.replace(t, epoch_s=[times * s for s in t.epoch_s]) for t in run.trainings
    ]
    info = msgspec.structs.replace(run.info, id=name, started=f"2099-{name}")
    return msgspec.structs.replace(run, info=info, trainings=trainings)


def test_changes_are_marked_by_the_rule_of_compare(quick_run: Run) -> None:
    """Same, then much slower, then as before: each word is the gate's own, in order of time."""
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


def test_a_case_is_held_to_the_last_run_that_has_it(quick_run: Run) -> None:
    """A run without the case between them is passed over."""
    case = quick_run.trainings[0].case
    without = later(quick_run, "b")
    left = [t for t in without.trainings if t.case != case]
    runs = [quick_run, msgspec.structs.replace(without, trainings=left), later(quick_run, "c")]
    frame = history.history(runs)
    assert frame[frame["case"] == case.id]["÷ before"].tolist()[1] == pytest.approx(1)


def test_another_recipe_is_not_compared(quick_run: Run) -> None:
    """The reason stands where the change would."""
    other = later(quick_run, "b")
    info = msgspec.structs.replace(other.info, recipe_sha256="0" * 64)
    frame = history.history([quick_run, msgspec.structs.replace(other, info=info)])
    assert "recipes differ" in frame["change"].tolist()[1]


def test_no_line_joins_what_cannot_be_compared(quick_run: Run) -> None:
    """Another calibration begins a new stretch; a run with injected faults is said to be one."""
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
    """The sentence counts them, the picture is drawn."""
    content = history.content([quick_run, later(quick_run, "b", 4)])
    html = page.html(content, {p.name: draw(p) for p in content.pictures})
    assert "2 slower and 0 faster" in html
    assert html.count("<svg") == 1


def test_what_is_undecided_is_no_yes(quick_run: Run) -> None:
    """Runs of one process have no interval: whether a case is as fast stays open."""
    alone = [t for t in quick_run.trainings if t.process == quick_run.trainings[0].process]
    one = msgspec.structs.replace(quick_run, trainings=alone)
    answer = history.content([one, later(one, "b")]).answers[0]
    assert (answer.outcome, answer.word) == ("inconclusive", "Not settled")


def test_the_history_is_of_every_finished_run(quick_folder: Path, copied: Path) -> None:
    """A damaged folder is said and left out; the exit code speaks of the reading."""
    second = copied.parent / "99999999T000000Z-aaaaaa"
    second.mkdir()
    (second / "run.json").write_text("{")
    done = call_in(copied.parent.parent.parent, "report", "--history", "--json")
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stderr
    rows = json.loads(done.stdout)["tables"]["history"]
    assert {row["run"] for row in rows} == {(quick_folder / "latest").resolve().name}


def test_history_with_a_run_or_without_any_is_refused(tmp_path: Path) -> None:
    """One line each."""
    from xorbench.xor.report_again import history as verb

    with pytest.raises(BadOption, match="no finished run"):
        verb(tmp_path)
    done = call_in(tmp_path, "report", "--history", "latest")
    assert done.returncode == 2
    assert "give no RUN" in done.stderr
