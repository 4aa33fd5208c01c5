"""Tables and texts: numbers with units, escaped cells, pages without network access."""

import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pandas as pd
import pytest

from xorbench.records.redaction import Names, without_names
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import Failure, Skip
from xorbench.report import document, page, text
from xorbench.report.content import Content, Section, draw
from xorbench.report.drawing import short_names
from xorbench.runtime.progress import Lines
from xorbench.verdicts import failed
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.report import plots, runs, tables
from xorbench.xor.report.runs import heading
from xorbench.xor.report.tables import correctness, speed


def reported(run: Run) -> Content:
    """The content of the run's report, judged."""
    evidence = Evidence(run)
    return runs.content(evidence, judge(evidence))


def test_throughput_is_consistent_in_its_three_units(quick_run: Run) -> None:
    """Samples, epochs and steps per second are one speed; each has its interval."""
    frame = speed.throughput(Evidence(quick_run)).set_index("case")
    row = frame.loc["cpu-loader-b128-pin0-drop1-w0-s0"]
    assert row["samples/s"] == pytest.approx(2432 * row["epochs/s"])
    assert row["steps/s"] == pytest.approx(19 * row["epochs/s"])
    for unit in ("samples/s", "epochs/s", "steps/s", "normalized time"):
        assert row[f"{unit} low"] < row[unit] < row[f"{unit} high"]
    assert (row["processes"], row["epochs"]) == (2, 200)


def test_the_median_of_a_slow_case_is_slow(quick_run: Run) -> None:
    """A case whose epochs take twice as long has half the speed and half the ratio."""
    doubled = [
        msgspec.structs.replace(t, epoch_s=[2 * s for s in t.epoch_s])
        if not t.case.drop_last
        else t
        for t in quick_run.trainings
    ]
    before = speed.throughput(Evidence(quick_run)).set_index("case")
    after = speed.throughput(Evidence(msgspec.structs.replace(quick_run, trainings=doubled)))
    name = "cpu-loader-b128-pin0-drop0-w0-s0"
    row, old = after.set_index("case").loc[name], before.loc[name]
    for column in ("samples/s", "speedup"):
        assert row[column] == pytest.approx(old[column] / 2)


def test_accuracy_shows_the_worst_process(quick_run: Run) -> None:
    """The table has the integers of the worst process."""
    worse = msgspec.structs.replace(
        quick_run.trainings[0],
        test=msgspec.structs.replace(quick_run.trainings[0].test, correct=3),
    )
    run = msgspec.structs.replace(quick_run, trainings=[worse, *quick_run.trainings[1:]])
    frame = correctness.accuracy(Evidence(run)).set_index("case")
    assert frame.loc[worse.case.id, "test correct"] == 3
    assert frame["test total"].tolist() == [500, 500]


def test_a_failed_case_has_a_row_in_every_table_and_skipped_cases_share_a_line(
    quick_run: Run,
) -> None:
    """A failed case has a row with the reason in every table; no row is empty."""
    reason = "no cuda device: this PyTorch (2.13.0) is built without CUDA"
    skips = [Skip(case=Case("cuda", seed=seed), skipped=reason) for seed in range(19)]
    failure = Failure(case=Case(seed=8), process="p0", config="base", epochs=3, failed="it broke")
    run = msgspec.structs.replace(quick_run, skips=skips, failures=[failure])
    verdicts = judge(Evidence(run))
    for name in ("throughput", "accuracy", "determinism"):
        notes = tables.TABLES[name].make(Evidence(run), verdicts).set_index("case")["note"]
        assert not any("cuda" in case for case in notes.index)
        assert notes["cpu-loader-b128-pin0-drop1-w0-s8"] == "failed: it broke"
    text = document.terminal(runs.content(Evidence(run), verdicts), 1)
    reason = "this PyTorch (2.13.0) is built without CUDA"
    assert f"\nCUDA: not tested (19 cases): {reason}\nFAIL: " in text
    assert text.count("without CUDA") == 1


def test_markdown_cells_cannot_break_out() -> None:
    """Pipes, newlines and tags in a cell stay text."""
    frame = pd.DataFrame([{"case": "a|b\nc<script>", "note": "x|y"}])
    lines = text.to_markdown(frame).splitlines()
    assert lines[2].count(" | ") == 1
    assert "a\\|b c&lt;script>" in lines[2]


def test_csv_keeps_every_digit() -> None:
    """A CSV file reads back without loss."""
    frame = pd.DataFrame([{"case": "a", "samples/s": 0.1 + 0.2}])
    assert f"{0.1 + 0.2!r}" in text.to_csv(frame)


def test_a_figure_is_shown_with_its_interval() -> None:
    """Three columns become one; a figure of one process is marked."""
    frame = pd.DataFrame(
        [
            {"case": "a", "x": 1234.5, "x low": 1200.0, "x high": 1300.0},
            {"case": "b", "x": 2.0, "x low": None, "x high": None},
        ]
    )
    (_, figures), _ = text.shown(frame)
    assert figures.name == "x [95%]"
    assert figures.texts == ["1,234 [1,200, 1,300]", "2.000 [n=1]"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (123456.0, "123,500"),
        (12.3456, "12.35"),
        (0.00123456, "0.001235"),
        (1e-9, "1e-09"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, shown: str) -> None:
    """Thousands have separators; usual sizes have no exponent."""
    assert text.number(value) == shown


def test_the_report_names_machine_versions_command_and_date(quick_run: Run) -> None:
    """The heading has machine, versions, command and date."""
    report = document.markdown(reported(quick_run))
    info = quick_run.info
    machine = info.processes[0].machine
    for part in (info.command, info.started, info.host["cpu"], machine["torch_version"], info.id):
        assert part in report
    for title in ("Throughput", "Accuracy", "Determinism", "Processes", "Checks"):
        assert f"## {title}" in report


def test_a_failed_verdict_is_printed_with_its_hint(quick_run: Run) -> None:
    """Expected, actual and hint are in one line."""
    training = msgspec.structs.replace(quick_run.trainings[0], reloaded_sha256="0" * 64)
    run = msgspec.structs.replace(quick_run, trainings=[training, *quick_run.trainings[1:]])
    lines = document.failures(judge(Evidence(run)))
    assert len(lines) == 1
    assert lines[0].startswith(f"FAIL save and load: {training.case.id}")
    assert "hint: " in lines[0]


def test_the_page_needs_no_network_and_escapes_what_it_shows(quick_run: Run) -> None:
    """The page has no external address; a hostile reason is escaped."""
    hostile = "<script>alert(1)</script>"
    failure = Failure(case=Case(seed=8), process="p0", config="base", epochs=3, failed=hostile)
    run = msgspec.structs.replace(quick_run, failures=[failure])
    content = reported(run)
    html = page.html(content, {picture.name: draw(picture) for picture in content.pictures})
    assert html.count("<script") == 1  # the page's own
    assert "&lt;script&gt;alert(1)" in html
    fetched = re.findall(r"""(?:src|href)=["'](?!#|data:)([^"']*)""", html)
    assert fetched == []
    assert len(html) < 1_500_000


def test_a_missing_device_is_on_the_first_screen_of_every_report(quick_run: Run) -> None:
    """Next to the answers: on the page, in Markdown, in the step summary; in JSON as numbers."""
    reason = "no cuda device: this PyTorch (2.13.0) is built without CUDA"
    skips = [Skip(case=Case("cuda", seed=seed), skipped=reason) for seed in range(19)]
    unfit = Case(engine="tensor", num_workers=2)
    skips.append(Skip(case=unfit, skipped="it needs a compiler", lacks="engine"))
    content = reported(msgspec.structs.replace(quick_run, skips=skips))
    html = page.html(content, {picture.name: draw(picture) for picture in content.pictures})
    head = html[: html.index("</ul>")]
    assert "<h1>CUDA</h1>\n<p><strong>Not tested.</strong> 19 cases: this PyTorch (2.13.0)" in head
    assert (
        "<h1>CPU, tensor engine</h1>\n<p><strong>Not tested.</strong> 1 case: it needs a compiler"
        in head
    )
    line = "- **CUDA: not tested.** 19 cases: this PyTorch (2.13.0) is built without CUDA\n"
    assert line in document.markdown(content).partition("\n**checks: ")[0]
    assert line in document.brief(content).partition("\n**checks: ")[0]
    assert json.loads(document.as_json(content, 0))["not_tested"][0] == {
        "device": "cuda",
        "engine": "",
        "cases": 19,
        "reason": "this PyTorch (2.13.0) is built without CUDA",
    }


def test_code_in_backticks_is_code_on_every_part_of_a_page(quick_run: Run) -> None:
    """In answers, failures, notes, captions and cells; an unpaired backtick is kept."""
    content = reported(quick_run)
    frame = pd.DataFrame([{"case": "a `b<c` d", "note": "see `run`"}, {"case": "5 ` 6"}])
    changed = dataclasses.replace(
        content,
        answers=[dataclasses.replace(content.answers[0], sentence="try `check`")],
        sections=[Section("one", "One", frame.fillna(""), "about `it`")],
        verdicts=[failed("rerun", "a", "equal", "other", "use `diff A B`")],
    )
    html = page.html(changed, {picture.name: draw(picture) for picture in content.pictures})
    for code in ("b&lt;c", "run", "check", "it", "diff A B"):
        assert f"<code>{code}</code>" in html
    body = html[: html.index("<script>")]
    assert re.findall(r".*`.*", body) == ["<tr><td>5 ` 6</td><td></td></tr>"]


def test_pictures_are_wellformed_and_reproducible(quick_run: Run) -> None:
    """Each plot is an SVG, and drawing it twice gives identical bytes; one size has no line."""
    evidence = Evidence(quick_run)
    drawn = {name: plot for name, plot in plots.PLOTS.items() if not plot.data(evidence).empty}
    assert plots.PLOTS.keys() - drawn.keys() == {"scaling"}
    for plot in drawn.values():
        svg = plot.draw(plot.data(evidence))
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert svg == plot.draw(plot.data(evidence))


def test_an_empty_run_has_no_pictures_and_still_a_report(quick_run: Run) -> None:
    """A run without trainings has a report without pictures."""
    run = msgspec.structs.replace(quick_run, trainings=[], epochs_by_training={})
    assert all(plot.data(Evidence(run)).empty for plot in plots.PLOTS.values())
    assert "nothing to judge" not in document.markdown(reported(run))
    assert "(none)" in document.terminal(reported(run), 3)


def test_the_answers_come_last_and_then_what_to_do(quick_run: Run) -> None:
    """The output ends with three answers and the verdict; after a failure also with a hint."""
    content = reported(quick_run)
    *_, right_, same, fast, verdict = document.terminal(content, 0).splitlines()
    assert right_.startswith("Is it correct? Yes. ")
    assert same.startswith("Is it bitwise identical? Yes. ")
    assert fast.startswith("Is it as fast as expected? Not judged. ")
    assert verdict.startswith("PASS: checks: ")
    bad = failed("rerun", "a case", "equal", "other", "look at the hardware")
    failing = dataclasses.replace(content, verdicts=[*content.verdicts, bad])
    *_, verdict, hint = document.terminal(failing, 1).splitlines()
    assert verdict.startswith("FAIL: checks: ")
    assert hint == "next: look at the hardware"
    assert document.markdown(content).splitlines()[2].startswith("- **Is it correct? Yes.**")


def test_a_long_table_is_printed_after_a_failure_or_on_request(quick_run: Run) -> None:
    """A long table is printed after a failure or with --verbose; else its length."""
    content = runs.content(Evidence(quick_run), [])
    long = dataclasses.replace(
        next(s for s in content.sections if s.name == "accuracy"),
        frame=pd.DataFrame({"case": [f"case {number}" for number in range(50)]}),
    )
    content = dataclasses.replace(content, sections=[long])
    assert "Accuracy: 50 rows, in report.md (--verbose prints" in document.terminal(content, 0)
    assert "case 49" in document.terminal(content, 0, verbose=True)
    bad = failed("rerun", "a case", "equal", "other", "look")
    assert "case 49" in document.terminal(dataclasses.replace(content, verdicts=[bad]), 1)


def test_anonymous_text_keeps_the_last_part_of_a_path() -> None:
    """Paths and device UUIDs are removed; rates, ratios and ids stay."""
    uuid = "GPU-12345678-1234-1234-1234-123456789abc"
    secret = f"python /home/ann/.venv/bin/python at 12 samples/s, {uuid}"
    assert without_names(secret) == "python python at 12 samples/s, <uuid>"
    assert without_names({"at": ["https://example.org/a/b", 1]}) == {
        "at": ["https://example.org/a/b", 1]
    }
    assert without_names("a ÷ b / c, 1/2, see logs/p0.log") == "a ÷ b / c, 1/2, see logs/p0.log"
    assert without_names("gcc -I/data/acme/include -L/home/ann/lib") == "gcc -Iinclude -Llib"


NAMES = Names(homes=("/home/jo doe",), users=("jdoe",), hosts=("base.example.org", "base"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("open '/home/jo doe/my data/x.py'", "open '~/my data/x.py'"),
        ("open '/scratch/jo doe/my data/x.py'", "open 'x.py'"),
        ("on BASE.example.org, as jdoe", "on <host>, as <user>"),
        ("Base:29500 refused JDOE", "<host>:29500 refused <user>"),
        ("database, base-line, cpu-base-b32", "database, base-line, cpu-base-b32"),
    ],
)
def test_a_whole_word_is_masked_and_no_part_of_one(text: str, masked: str) -> None:
    """In upper or lower case, the short name of a host, paths with spaces."""
    assert NAMES.masked(text) == masked


def test_structure_stays_whatever_a_host_is_called() -> None:
    """With a host named base, or loader, references between lines stay."""
    line = {"config": "base", "case": {"engine": "base"}, "process": "base", "failed": "base died"}
    assert without_names(line, NAMES) == {**line, "failed": "<host> died"}
    config = {"config": "env=LD_PRELOAD=/usr/lib/hook.so", "failed": "/usr/lib/hook.so"}
    assert without_names(config, NAMES) == {"config": "env=LD_PRELOAD=hook.so", "failed": "hook.so"}


@pytest.mark.parametrize("host", ["base", "loader", "default", "cpu"])
def test_a_run_of_a_host_with_any_name_reads_back_equal(quick_run: Run, host: str) -> None:
    """A run of a host with any name reads back unchanged."""
    names = Names((), (host,), (host,))
    for record in (quick_run.info, *quick_run.trainings, *quick_run.epochs[:9]):
        clean = without_names(msgspec.to_builtins(record), names)
        again = msgspec.convert(clean, type(record))
        if record is quick_run.info:
            assert (again.cases, again.configs) == (record.cases, record.configs)
        else:
            assert again == record


def test_progress_in_a_log_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """A line at the start, one every ten seconds with the time left, no colour."""
    times = iter([0.0, 0.0, 5.0, 11.0, 12.0])
    lines = Lines(clock=lambda: next(times))
    lines.begin(100)
    for _ in range(3):
        lines.advance(10)
    lines.end()
    assert capsys.readouterr().err.splitlines() == [
        "xorbench: training 100 epochs",
        "xorbench: 20% done, about 48 s left",
    ]


def test_progress_ignores_the_time_before_the_first_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The estimate ignores the time before the first epoch."""
    times = iter([0.0, 0.0, 44.0, *range(45, 60)])
    lines = Lines(clock=lambda: float(next(times)))
    lines.begin(100)
    for _ in range(4):
        lines.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["xorbench: training 100 epochs", "xorbench: 2% done, about 98 s left"]


def test_results_of_a_run_are_where_its_message_states(quick_folder: Path) -> None:
    """`latest` points to the only run."""
    assert (quick_folder / "latest").resolve().parent == (quick_folder / "runs").resolve()


def test_labels_omit_common_parts() -> None:
    """Labels have only the parts of ids that differ, also within a setting."""
    case = "cpu-loader-b128-pin0-drop1-w0-s0"
    variables = [f"{case}@env=ATEN_CPU_CAPABILITY={value}" for value in ("avx2", "default")]
    assert short_names(variables) == ["avx2", "default"]
    assert short_names([case, f"{case}@threads=2"]) == [case, "@threads=2"]
    assert short_names([case, case.replace("b128", "b64")]) == ["b128", "b64"]


def test_every_software_of_a_run_is_named(quick_run: Run) -> None:
    """With several interpreters, the heading has the PyTorch version of each setting."""
    first, *others = quick_run.info.processes
    config = ProcessConfig(python="old=/opt/old/bin/python")
    old = msgspec.structs.replace(
        first, config=config, machine={**first.machine, "torch_version": "2.6.0"}
    )
    info = msgspec.structs.replace(quick_run.info, processes=[old, *others])
    software = dict(heading(msgspec.structs.replace(quick_run, info=info)))["software"]
    assert ["python=old: PyTorch 2.6.0" in software, "base: PyTorch" in software] == [True, True]
