"""CI output files: JUnit, Markdown, the step summary; and runs side by side."""

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from conftest import Xorbench, call_in

from xorbench.errors import BadOption
from xorbench.records.schema.run import Run
from xorbench.report import ci_outputs, document, page
from xorbench.report.content import draw
from xorbench.report.junit import junit
from xorbench.verdicts import Verdict, exit_code
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge
from xorbench.xor.report import runs, sides


def verdict(outcome: str, check: str = "rerun", **more: str) -> Verdict:
    """A verdict with an outcome."""
    values = {"check": check, "subject": "a", "outcome": outcome, "expected": "e", "actual": "x"}
    return msgspec.convert({**values, **more}, Verdict)


def test_each_verdict_is_a_test_case() -> None:
    """Failures, errors and skips are counted in the run and in each suite."""
    outcomes = ("pass", "fail", "inconclusive", "skipped")
    result = [verdict(o) for o in outcomes] + [verdict("pass", "inputs")]
    root = ElementTree.fromstring(junit(result, "r"))
    counts = {k: root.attrib[k] for k in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "1", "skipped": "1"}
    assert [suite.attrib["name"] for suite in root] == ["rerun", "inputs"]
    tags = [[child.tag for child in case] for case in root[0]]
    assert tags == [[], ["failure"], ["error"], ["skipped"]]


def test_a_failure_has_expected_actual_and_hint_with_any_content() -> None:
    """Markup is escaped, and characters that XML does not allow become a question mark."""
    one = verdict("fail", expected="1 < 2 & ]]>", actual='"\x00\x1b', hint="look")
    root = ElementTree.fromstring(junit([one], "<r>"))
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == '"??'
    assert failure.text == 'expected: 1 < 2 & ]]>\nactual: "??\nhint: look'


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_file_that_cannot_be_written_fails_before_the_work(
    inside: Xorbench, tmp_path: Path, option: str
) -> None:
    """One line, exit code 2, and no run."""
    done = inside("run", option, "nowhere/x")
    assert done.returncode == 2
    assert done.stderr.startswith(f"xorbench: {option}: cannot write to 'nowhere/x'")
    assert not (tmp_path / "results").exists()


def test_a_requested_file_exists_once_it_is_complete(tmp_path: Path) -> None:
    """The attempt to open leaves no file; an existing file stays complete until replaced."""
    new, old = tmp_path / "new.xml", tmp_path / "old.md"
    old.write_text("of an earlier job")
    exports = ci_outputs.opened(str(new), str(old))
    assert (new.exists(), old.read_text()) == (False, "of an earlier job")
    with old.open() as reader:
        exports.write([], "r", lambda: "of this one", str)
        assert reader.read() == "of an earlier job"
    assert (new.exists(), old.read_text()) == (True, "of this one")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_is_written_in_place(tmp_path: Path) -> None:
    """A link such as /dev/stdout is written in place."""
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    ci_outputs.opened(None, str(link)).write([], "r", lambda: "text", str)
    assert (link.is_symlink(), target.read_text()) == (True, "text")


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_bad_input_leaves_no_file_of_a_ci(inside: Xorbench, tmp_path: Path, option: str) -> None:
    """A file created by the attempt to open is removed after bad input."""
    assert inside("check", option, "x", "--processes", "1", "--", "python").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_step_summary_that_cannot_be_written_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A summary that cannot be written is reported; the verdict stays."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "such"))
    message = ci_outputs.opened(None, None).write([], "r", str, str)
    assert message == "GITHUB_STEP_SUMMARY: cannot write: no such file or directory"


def test_the_step_summary_answers_first(quick_run: Run) -> None:
    """The three questions, the count of checks, the main tables, and no tag."""
    evidence = Evidence(quick_run)
    verdicts = [*judge(evidence), verdict("fail", "accuracy", hint="<b>")]
    content = runs.content(evidence, verdicts)
    text = document.brief(content)
    assert text.index("**Is it correct? No.**") < text.index("### Throughput")
    assert "&lt;b>" in text
    assert "<b>" not in text


# Side by side


@pytest.fixture
def pair(quick_run: Run) -> dict[str, sides.RunSide]:
    """A run, and a run whose last case has different bits and one incorrect answer."""
    last = quick_run.trainings[-1].case.id
    doctored = [
        msgspec.structs.replace(t, weights_sha256="0" * 64, test=_less(t.test))
        if t.case.id == last
        else t
        for t in quick_run.trainings
    ]
    info = msgspec.structs.replace(quick_run.info, id="other")
    other = msgspec.structs.replace(quick_run, info=info, trainings=doctored)
    result = [sides.RunSide(Evidence(run), judge(Evidence(run))) for run in (quick_run, other)]
    return {"A": result[0], "B": result[1]}


def _less(count: object) -> object:
    return msgspec.structs.replace(count, correct=count.correct - 1)  # type: ignore[attr-defined]


def test_runs_stand_side_by_side_case_by_case(pair: dict[str, sides.RunSide]) -> None:
    """The table shows whether bits are identical, and the score of each run."""
    same = sides.bits(pair)["same"].tolist()
    assert sorted(same) == ["no", "yes"]
    wrong = sides.scores(pair).iloc[same.index("no")]
    assert (wrong["A correct"], wrong["B correct"]) == ("500/500", "499/500")
    speeds = sides.speeds(pair)
    assert (speeds["A samples/s"] == speeds["B samples/s"]).all()


def test_a_case_of_only_one_run_has_an_empty_cell(pair: dict[str, sides.RunSide]) -> None:
    """A case of only one run has an empty cell for the other run."""
    gone = pair["B"].run.trainings[0].case
    left = [t for t in pair["B"].run.trainings if t.case != gone]
    fewer = msgspec.structs.replace(pair["B"].run, trainings=left)
    frame = sides.bits({**pair, "B": sides.RunSide(Evidence(fewer), [])}).set_index("case")
    assert (frame.loc[gone.id, "B sha256"], frame.loc[gone.id, "same"]) == ("", "")


def test_the_common_page_is_a_page(pair: dict[str, sides.RunSide]) -> None:
    """Each run, a picture, the tables."""
    content = sides.content(list(pair.values()))
    html = page.html(content, {p.name: draw(p) for p in content.pictures})
    assert "<dt>B</dt><dd>other" in html
    assert html.count("<svg") == 1
    assert document.terminal(content, 0).count("samples/s") >= 2


def test_runs_side_by_side_are_first_compared(pair: dict[str, sides.RunSide]) -> None:
    """The answers are on the bits, the speed relative to the first run, and the checks."""
    answers = sides.content(list(pair.values())).answers
    assert [answer.question for answer in answers] == [
        "Are the runs bitwise identical?",
        "Is B as fast as A?",
        "Does every run pass its checks?",
    ]
    assert answers[0].outcome == "fail"
    assert answers[0].sentence.startswith("Different in 1 of 2 cases in common: ")
    assert answers[1].sentence.startswith("2 cases in common: ")


def test_the_verdict_of_several_runs_follows_their_answers(
    pair: dict[str, sides.RunSide],
) -> None:
    """A failed or inconclusive answer determines the exit code, with a hint."""
    first_case = [side.run.trainings[:1] for side in pair.values()]
    one, other = (
        msgspec.structs.replace(side.run, trainings=own)
        for side, own in zip(pair.values(), first_case, strict=True)
    )
    content = sides.content([sides.RunSide(Evidence(run), []) for run in (one, other)])
    assert [answer.outcome for answer in content.answers[:2]] == ["fail", "inconclusive"]
    assert exit_code(content.verdicts) == 1
    equal = msgspec.structs.replace(other, trainings=one.trainings)
    content = sides.content([sides.RunSide(Evidence(run), []) for run in (one, equal)])
    assert exit_code(content.verdicts) == 3
    assert document.terminal(content, 3).splitlines()[-1] == (
        "next: one process has no interval: rerun both with --processes 2 or more"
    )


def test_runs_without_a_common_case_are_not_compared(pair: dict[str, sides.RunSide]) -> None:
    """Runs without a common case are neither identical nor as fast."""
    a, b = (side.run for side in pair.values())
    names = {training.case.id for training in a.trainings}
    one, other = (
        msgspec.structs.replace(run, trainings=[t for t in run.trainings if t.case.id == name])
        for run, name in zip((a, b), sorted(names), strict=True)
    )
    evidence = [Evidence(one), Evidence(other)]
    made = sides.content([sides.RunSide(side, judge(side)) for side in evidence])
    assert [answer.outcome for answer in made.answers[:2]] == ["skipped", "skipped"]


def test_report_puts_runs_side_by_side(quick_folder: Path, copied: Path, tmp_path: Path) -> None:
    """`report` takes any number of runs, writes a page on request, and changes no run."""
    info = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps({**info, "id": "copy", "name": "copy"}))
    for path in copied.glob("*.jsonl"):
        path.write_text(path.read_text().replace(info["id"], "copy"))
    before = sorted(path.stat().st_mtime_ns for path in copied.iterdir())
    first = str((quick_folder / "latest").resolve())
    done = call_in(tmp_path, "report", first, "copy", "--html", "both.html", "--junit", "j.xml")
    assert (done.returncode, "\nPASS: " in done.stdout) in [(0, True), (3, False)], done.stderr
    assert done.returncode == (3 if "Inconclusive" in done.stdout else 0)
    assert "B sha256" in done.stdout
    assert "<svg" in (tmp_path / "both.html").read_text()
    names = [c.attrib["name"] for c in ElementTree.parse(tmp_path / "j.xml").iter("testcase")]
    assert {name.split(":")[0] for name in names} >= {"A", "B", "B ÷ A"}
    assert before == sorted(path.stat().st_mtime_ns for path in copied.iterdir())


def test_the_same_run_twice_is_refused(quick_folder: Path) -> None:
    """The same run twice is an error of one line."""
    from xorbench.xor.report_again import sides as verb

    with pytest.raises(BadOption, match="the same run twice"):
        verb(quick_folder, ["first", "latest"])
