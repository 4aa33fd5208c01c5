"""`check --against`: the bits and the speed of two commands, two answers and one exit code."""

import json
import shutil
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from conftest import Completed, Reported, call_in, reported, run_in

from xorbench.programs.conclusion import CheckRuns, RunPair
from xorbench.programs.cross_comparison import compared_across
from xorbench.programs.first_difference import Compared, Coverage, FirstDifference
from xorbench.programs.questions.against import (
    AgainstRequest,
    SideRuns,
    judge_bits,
    judgement,
    turns,
)
from xorbench.programs.questions.rerun import CheckRequest
from xorbench.programs.step_time import ClockedRun, StepSpeed, clocked, periods, step_speed
from xorbench.records.trace import TraceEnd, TraceEvent, TraceFile, TraceHead, TraceStep
from xorbench.stats.ratio import Ratio

LIMIT_S = 240.0
OLD = """
import time, torch
torch.set_num_threads(1)
torch.manual_seed(0)
class Net(torch.nn.Sequential): pass
model = Net(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(9):
    time.sleep(0.03)
    loss = (model(torch.ones(8, 3)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
# The same numbers by other names and another setting of the optimizer, and six times as slow.
SLOW = (
    OLD.replace("Net", "Renamed").replace("lr=0.1", "lr=0.1, foreach=False").replace("0.03", "0.18")
)
OTHER_RATE = OLD.replace("lr=0.1", "lr=0.2")


def written(folder: Path, a: str, b: str, *options: str) -> tuple[str, ...]:
    """Two scripts of one folder, and the words that check B against A."""
    (folder / "old.py").write_text(a)
    (folder / "new.py").write_text(b)
    words = ("check", "--against", f"{sys.executable} old.py", *options)
    return (*words, "--", sys.executable, "new.py")


def checked(folder: Path, a: str, b: str, *options: str) -> Completed:
    """Check B against A."""
    return call_in(folder, *written(folder, a, b, *options))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """B has the values of A under different names, and slower steps."""
    options = ("--processes", "2", "--json", "--junit", "j.xml", "--markdown", "m.md")
    return reported(
        tmp_path_factory,
        "slow",
        lambda work: run_in(work, *written(work, OLD, SLOW, *options), timeout=LIMIT_S),
    )


def test_a_refactoring_is_identical_and_a_slower_step_fails(slow: Reported) -> None:
    """Class names and settings without effect are not differences; the speed decides."""
    assert slow.result["bits"]["outcome"] == "pass", slow.result["sentence"]
    assert slow.result["speed"]["verdict"] == "slower", slow.result["sentence"]
    assert slow.done.returncode == slow.result["exit_code"] == 1


def test_the_ratio_of_step_times_has_an_interval(slow: Reported) -> None:
    """180 ms against 30 ms plus the computation, without the start of Python."""
    speed = slow.result["speed"]
    assert 1.5 < speed["low"] < speed["ratio"] < speed["high"]
    assert speed["ratio"] < 6.5
    assert speed["a"]["median_s"] > 0.03
    assert speed["a"]["steps"] == [5, 5]  # 9 steps have 8 periods, of which 3 are skipped


def test_every_report_begins_with_the_sentence(slow: Reported) -> None:
    """It has both answers; JUnit has one case per answer."""
    sentence = slow.result["sentence"]
    assert "B is bitwise identical to A" in sentence
    assert "slower" in sentence
    assert sentence in slow.folder.joinpath("m.md").read_text().splitlines()[0]
    root = ET.parse(slow.folder / "j.xml").getroot()
    assert [suite.get("name") for suite in root] == ["identical bits", "step time"]
    assert len(list(root.iter("failure"))) == 1
    page = (slow.made / "report.html").read_text()
    for answer in ("Is it bitwise identical?", "Is it as fast as expected?"):
        assert answer in page


def test_it_can_be_judged_again_from_its_records(slow: Reported) -> None:
    """Its sentence and exit code do not change."""
    again = call_in(slow.folder, "check", "--json", "--from", str(slow.made))
    assert again.returncode == 1
    assert json.loads(again.stdout)["sentence"] == slow.result["sentence"]


def test_runs_of_both_commands_are_interleaved(slow: Reported) -> None:
    """A B B A for the bits; for the speed, the sides start in this order too."""
    note = [line for line in slow.done.stderr.splitlines() if "exit code" in line]
    sides = [line.partition(", run")[0].removeprefix("xorbench: ") for line in note]
    assert sides[:4] == ["A", "B", "B", "A"]
    assert sides[4:] == [f"for the speed, {side}" for side in "ABBAAB"[: len(sides) - 4]]
    assert "".join(islice(turns("AB"), 8)) == "ABBAABBA"


def test_a_change_of_the_result_is_reported_with_step_and_cause(tmp_path: Path) -> None:
    """A different learning rate: parameters of step 1, because of hyperparameters of step 0."""
    options = ("--bits-only", "--processes", "2", "--json")
    done = checked(tmp_path, OLD, OTHER_RATE, *options)
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert (result["step"], result["component"]) == (1, "hyperparameters")
    assert "0.1 and 0.2" in result["details"]["hyperparameters that differ"]
    assert result["speed"] is None


def test_an_irreproducible_reference_is_inconclusive(slow: Reported, tmp_path: Path) -> None:
    """If A is not reproducible, B is not judged: exit code 3."""
    folder = tmp_path / "check"
    shutil.copytree(slow.made, folder)
    request = json.loads((folder / "check.json").read_text())
    (folder / "check.json").write_text(json.dumps(request | {"speed": False}))
    record = next((folder / "a-2" / "records").glob("[0-9]*.jsonl"))
    head, first, *more = record.read_text().splitlines(keepends=True)
    step = json.loads(first)
    next(event for event in step["events"] if event[0] == "parameter")[2] = "0" * 16
    record.write_text("".join([head, json.dumps(step) + "\n", *more]))
    done = call_in(tmp_path, "check", "--json", "--from", str(folder))
    assert done.returncode == 3
    assert "A is not reproducible" in json.loads(done.stdout)["sentence"]


def test_a_command_that_fails_is_named_by_its_side(tmp_path: Path) -> None:
    """Exit code 1, and no further runs."""
    done = checked(tmp_path, OLD, "raise SystemExit('no such data')", "--json")
    sentence = json.loads(done.stdout)["sentence"]
    assert done.returncode == 1
    assert sentence.startswith("B: the command failed in run 1: exit code 1: no such data")
    assert done.stderr.count("exit code") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--skip", "3"), "--skip: needs --against"),
        (("--bits-only",), "--bits-only: needs --against"),
        (("--against", ""), "--against: empty"),
        (("--against", "python 'x"), "--against: no closing quotation"),
        (("--against", "no-such-command x"), "--against: there is no command 'no-such-command'"),
        (("--against", "python x", "--bits-only", "--speed-only"), "--bits-only: cannot be given"),
        (("--against", "python x", "--threshold", "200%"), "--threshold: must be from"),
        (("--against", "python x", "--skip", "-1"), "--skip: must be from 0"),
        (("--against", "python x", "--processes", "1"), "--processes: must be from 2"),
        (("--against", "python x", "--kill-after", "3"), "--against: cannot be given with --kill"),
    ],
)
def test_bad_input_is_one_line_that_names_the_option(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    """Exit code 2, and nothing is written."""
    done = call_in(tmp_path, "check", *options, "--", sys.executable, "x.py")
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_the_runs_and_makes_none(tmp_path: Path) -> None:
    """Each script would create a file."""
    done = checked(tmp_path, "open('a', 'w')", "open('b', 'w')", "--dry-run", "--in-place")
    assert done.returncode == 0
    assert "8 runs each, interleaved A B B A" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.py", "old.py"]


# The judgement


def diverging(step: int | None, b: str, a: str = "run 1") -> CheckRuns:
    """A pair of runs that diverges at a step, or is identical."""
    event = TraceEvent("parameter", "o0.g0.p0", "x")
    first = None if step is None else FirstDifference(step, "digest", event, event)
    end = TraceEnd(end=True, steps=9, complete=True)
    coverage = Coverage(steps=9, parameters={"o0.g0.p0"}, ends=(end, end))
    return CheckRuns(runs=2, pairs=[RunPair("python", Compared(coverage, first), b, a)])


@pytest.mark.parametrize(
    ("own_a", "own_b", "across", "outcome", "message"),
    [
        (None, None, None, "pass", "bitwise identical"),
        (None, None, 4, "fail", "B first differs from A in step 4"),
        (7, 8, 4, "fail", "B first differs from A in step 4"),  # both are reproducible up to there
        (4, None, 4, "inconclusive", "A is not reproducible"),
        (4, None, None, "inconclusive", "A is not reproducible"),
        (None, 4, 4, "fail", "A is reproducible, but B is not"),
        (None, 4, None, "fail", "A is reproducible, but B is not"),  # identical by chance
    ],
)
def test_bits_are_compared_up_to_the_first_irreproducible_step(
    own_a: int | None, own_b: int | None, across: int | None, outcome: str, message: str
) -> None:
    """A difference counts only if both sides are reproducible up to it."""
    sides = [SideRuns(n, diverging(step, "run 2")) for n, step in (("A", own_a), ("B", own_b))]
    both = diverging(across, "B", "A")
    answer = judge_bits(sides[0], sides[1], both)
    assert answer.outcome == outcome
    assert message in answer.sentence
    (verdict,) = judgement(answer, both, None).verdicts
    assert verdict.outcome == outcome


@pytest.mark.parametrize(
    ("own_a", "own_b", "across", "command"),
    [
        (
            None,
            None,
            4,
            "xorbench explain --in-place --steps 3 --against 'python a.py' -- python b.py",
        ),
        (4, None, 4, "xorbench explain --in-place --steps 3 -- python a.py"),
        (None, 4, None, "xorbench explain --in-place --steps 3 -- python b.py"),
        (None, None, None, ""),
    ],
)
def test_the_next_command_explains_the_commands_that_differ(
    own_a: int | None, own_b: int | None, across: int | None, command: str
) -> None:
    """B against A, or the one that is not reproducible, with the options of the check."""
    check = CheckRequest(("python", "b.py"), steps=3, in_place=True)
    sides = [SideRuns(n, diverging(step, "run 2")) for n, step in (("A", own_a), ("B", own_b))]
    both = diverging(across, "B", "A")
    request = AgainstRequest(check, ("python", "a.py"))
    assert request.next_command(*sides, both, judge_bits(*sides, both)) == command


@pytest.mark.parametrize(
    ("times", "verdict", "outcome"),
    [
        ((1.0, 1.001, 0.999), "same", "pass"),
        ((1.1, 1.101, 1.099), "slower", "fail"),
        ((0.9, 0.901, 0.899), "faster", "pass"),
        ((0.8, 1.0, 1.25), "inconclusive", "inconclusive"),
        ((1.05, 1.02, 1.08), "inconclusive", "inconclusive"),
    ],
)
def test_speed_is_judged_by_the_rule_of_compare(
    times: Sequence[float], verdict: str, outcome: str
) -> None:
    """Significantly beyond the threshold, within it, or neither."""
    a = [ClockedRun(20, ratio) for ratio in (0.100, 0.1001, 0.0999)]
    b = [ClockedRun(20, 0.1 * ratio) for ratio in times]
    answer = step_speed(a, b, 0.05, 3)
    assert (answer.verdict, answer.outcome) == (verdict, outcome)


def test_too_few_steps_are_inconclusive() -> None:
    """A run in which every step is skipped has no time."""
    answer = step_speed([ClockedRun(5, 0.1)] * 2, [ClockedRun(0, None)] * 2, 0.05, 3)
    assert answer.outcome == "inconclusive"
    assert "B has a run with at most 4 steps" in answer.sentence


def clock_step(step: int, at_s: float, optimizer: str, recorder_s: float = 0.0) -> TraceStep:
    """A step of a record of the clock."""
    events = [TraceEvent("clock", optimizer, None)]
    return TraceStep(step=step, at_s=at_s, took_s=0.0, recorder_s=recorder_s, events=events)


def test_a_period_is_between_steps_of_one_optimizer_without_the_recorder() -> None:
    """Two alternating optimizers make one iteration; the time of the recorder is subtracted."""
    lines = [
        clock_step(0, 1.0, "o0"),
        clock_step(1, 1.1, "o1"),
        clock_step(2, 2.0, "o0", 0.25),
        clock_step(3, 2.1, "o1"),
        clock_step(4, 3.0, "o0"),
    ]
    assert periods(lines) == [0.75, 1.0]


class _Lines(TraceFile):
    """A trace in memory."""

    def __init__(self, events: Sequence[TraceEvent]) -> None:
        head = TraceHead(producer="recorder", digest="", level="default", machine={})
        super().__init__(Path("none"), head)
        object.__setattr__(self, "events", events)

    def lines(self) -> Any:
        """One step."""
        events = list(self.events)  # type: ignore[attr-defined]
        yield TraceStep(step=0, at_s=0.0, took_s=0.0, recorder_s=0.0, events=events)


def test_different_calls_with_identical_values_pass_with_a_note() -> None:
    """Parameters, buffers and losses decide; different values still fail."""
    values = [TraceEvent("parameter", "o0.g0.p0", "1"), TraceEvent("loss", "l0", "2")]
    more = [values[0], TraceEvent("call", "c0", None), values[1]]
    losses = [values[0], TraceEvent("call", "c0", None), TraceEvent("loss", "l0", "3")]
    same, note = compared_across(_Lines(values), _Lines(more))
    assert same.first is None
    assert "the module calls of A and B differ, first in step 0" in note
    different, note = compared_across(_Lines(values), _Lines(losses))
    assert different.first is not None
    assert note == ""


def test_the_worse_of_two_answers_decides() -> None:
    """Identical bits do not excuse a slower step, nor a faster step different bits."""
    same, changed = (diverging(step, "B", "A") for step in (None, 2))
    own = [SideRuns(name, diverging(None, "run 2")) for name in "AB"]
    ratio = Ratio(ratio=1.2, low=None, high=None, processes=1)
    slower = StepSpeed("slower", 0.05, ratio=ratio)
    faster = StepSpeed("faster", 0.05, ratio=ratio)
    inconclusive = StepSpeed("inconclusive", 0.05, "too few steps")
    for across, speed, outcome in (
        (same, faster, "pass"),
        (same, slower, "fail"),
        (changed, faster, "fail"),
        (same, inconclusive, "inconclusive"),
        (changed, inconclusive, "fail"),
    ):
        bits = judge_bits(own[0], own[1], across)
        assert judgement(bits, across, speed).conclusion.outcome == outcome


def test_the_answer_to_a_question_has_no_lead() -> None:
    """The page shows the word *No* before it."""
    own = [SideRuns(name, diverging(None, "run 2")) for name in "AB"]
    across = diverging(2, "B", "A")
    (answer,) = judgement(judge_bits(own[0], own[1], across), across, None).answers
    assert (answer.word, answer.sentence[:28]) == ("No", "B first differs from A in st")


def test_the_process_with_most_steps_is_timed(tmp_path: Path) -> None:
    """Without records there is no time."""
    assert clocked([], 3) == ClockedRun(0, None)
    assert list(tmp_path.iterdir()) == []
