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
from xorbench.programs.questions.against import SideRuns, judge_bits, judgement, turns
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
    """B has the numbers of A by other names, and takes longer for a step."""
    options = ("--processes", "2", "--json", "--junit", "j.xml", "--markdown", "m.md")
    return reported(
        tmp_path_factory,
        "slow",
        lambda work: run_in(work, *written(work, OLD, SLOW, *options), timeout=LIMIT_S),
    )


def test_a_refactoring_keeps_the_bits_and_a_slower_step_fails(slow: Reported) -> None:
    """Names of classes and settings without effect are no difference; the speed decides."""
    assert slow.result["bits"]["outcome"] == "pass", slow.result["sentence"]
    assert slow.result["speed"]["verdict"] == "slower", slow.result["sentence"]
    assert slow.done.returncode == slow.result["exit_code"] == 1


def test_the_ratio_is_that_of_the_steps_with_its_interval(slow: Reported) -> None:
    """180 ms against 30 ms, and the work besides; what is timed is not the start of Python."""
    speed = slow.result["speed"]
    assert 1.5 < speed["low"] < speed["ratio"] < speed["high"]
    assert speed["ratio"] < 6.5
    assert speed["a"]["median_s"] > 0.03
    assert speed["a"]["steps"] == [5, 5]  # 9 steps have 8 periods, of which 3 are skipped


def test_one_sentence_leads_every_report(slow: Reported) -> None:
    """It has both answers; JUnit has a case of each."""
    sentence = slow.result["sentence"]
    assert "bits" in sentence
    assert "slower" in sentence
    assert sentence in slow.folder.joinpath("m.md").read_text().splitlines()[0]
    root = ET.parse(slow.folder / "j.xml").getroot()
    assert [suite.get("name") for suite in root] == ["identical bits", "step time"]
    assert len(list(root.iter("failure"))) == 1
    page = (slow.made / "report.html").read_text()
    for answer in ("Is it bitwise identical?", "Is it as fast as expected?"):
        assert answer in page


def test_it_can_be_judged_again_from_its_records(slow: Reported) -> None:
    """With the same sentence and exit code."""
    again = call_in(slow.folder, "check", "--json", "--from", str(slow.made))
    assert again.returncode == 1
    assert json.loads(again.stdout)["sentence"] == slow.result["sentence"]


def test_both_commands_run_in_turn(slow: Reported) -> None:
    """A B B A, first for the bits and then for the speed; with more runs on in turn."""
    told = [line for line in slow.done.stderr.splitlines() if "exit code" in line]
    sides = [line.partition(", run")[0].removeprefix("xorbench: ") for line in told]
    assert sides[:4] == ["A", "B", "B", "A"]
    assert sides[4:] == [f"for the speed, {side}" for side in "ABBA"]
    assert "".join(islice(turns("AB"), 8)) == "ABBAABBA"


def test_a_change_that_moves_the_bits_is_told_by_step_and_cause(tmp_path: Path) -> None:
    """Another learning rate: the parameters of step 1, by the hyperparameters of step 0."""
    options = ("--bits-only", "--processes", "2", "--json")
    done = checked(tmp_path, OLD, OTHER_RATE, *options)
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert (result["step"], result["component"]) == (1, "hyperparameters")
    assert "0.1 and 0.2" in result["details"]["hyperparameters that differ"]
    assert result["speed"] is None


def test_what_does_not_repeat_itself_is_no_standard(slow: Reported, tmp_path: Path) -> None:
    """Where A is not the same when it is run again nothing is said of B: exit code 3."""
    folder = tmp_path / "check"
    shutil.copytree(slow.made, folder)
    asked = json.loads((folder / "check.json").read_text())
    (folder / "check.json").write_text(json.dumps(asked | {"speed": False}))
    record = next((folder / "a-2" / "records").glob("[0-9]*.jsonl"))
    head, first, *more = record.read_text().splitlines(keepends=True)
    step = json.loads(first)
    next(event for event in step["events"] if event[0] == "parameter")[2] = "0" * 16
    record.write_text("".join([head, json.dumps(step) + "\n", *more]))
    done = call_in(tmp_path, "check", "--json", "--from", str(folder))
    assert done.returncode == 3
    assert "A is not reproducible" in json.loads(done.stdout)["sentence"]


def test_a_command_that_fails_is_named_by_its_side(tmp_path: Path) -> None:
    """Exit code 1; the runs end there."""
    done = checked(tmp_path, OLD, "raise SystemExit('no such data')", "--json")
    sentence = json.loads(done.stdout)["sentence"]
    assert done.returncode == 1
    assert sentence.startswith("B: the command failed in run 1: exit code 1: no such data")
    assert done.stderr.count("exit code") == 2


@pytest.mark.parametrize(
    ("options", "said"),
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
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """Exit code 2, and nothing is written."""
    done = call_in(tmp_path, "check", *options, "--", sys.executable, "x.py")
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_tells_the_runs_and_makes_none(tmp_path: Path) -> None:
    """The scripts would leave a file each, and there is none."""
    done = checked(tmp_path, "open('a', 'w')", "open('b', 'w')", "--dry-run", "--in-place")
    assert done.returncode == 0
    assert "5 runs each, interleaved A B B A" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.py", "old.py"]


# The judgement alone


def diverging(step: int | None, b: str, a: str = "run 1") -> CheckRuns:
    """Runs of which one pair diverges at a step, or is the same."""
    event = TraceEvent("parameter", "o0.g0.p0", "x")
    first = None if step is None else FirstDifference(step, "digest", event, event)
    end = TraceEnd(end=True, steps=9, complete=True)
    coverage = Coverage(steps=9, parameters={"o0.g0.p0"}, ends=(end, end))
    return CheckRuns(runs=2, pairs=[RunPair("python", Compared(coverage, first), b, a)])


@pytest.mark.parametrize(
    ("own_a", "own_b", "across", "outcome", "said"),
    [
        (None, None, None, "pass", "B is bitwise identical to A"),
        (None, None, 4, "fail", "B first differs from A in step 4"),
        (7, 8, 4, "fail", "B first differs from A in step 4"),  # both repeat themselves up to there
        (4, None, 4, "inconclusive", "A is not reproducible"),
        (4, None, None, "inconclusive", "A is not reproducible"),
        (None, 4, 4, "fail", "A is reproducible, but B is not"),
        (None, 4, None, "fail", "A is reproducible, but B is not"),  # equal by chance
    ],
)
def test_bits_are_judged_beside_what_each_side_repeats(
    own_a: int | None, own_b: int | None, across: int | None, outcome: str, said: str
) -> None:
    """A difference counts where both sides are the same in their own runs up to it."""
    sides = [SideRuns(n, diverging(at, "run 2")) for n, at in (("A", own_a), ("B", own_b))]
    both = diverging(across, "B", "A")
    found = judge_bits(sides[0], sides[1], both)
    assert found.outcome == outcome
    assert said in found.sentence
    (verdict,) = judgement(found, both, None).verdicts
    assert verdict.outcome == outcome


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
    """Beyond the threshold and surely moved; within it; or neither."""
    a = [ClockedRun(20, one) for one in (0.100, 0.1001, 0.0999)]
    b = [ClockedRun(20, 0.1 * one) for one in times]
    found = step_speed(a, b, 0.05, 3)
    assert (found.verdict, found.outcome) == (verdict, outcome)


def test_too_few_steps_are_never_as_fast() -> None:
    """A run that has no step beyond those that are skipped says nothing."""
    found = step_speed([ClockedRun(5, 0.1)] * 2, [ClockedRun(0, None)] * 2, 0.05, 3)
    assert found.outcome == "inconclusive"
    assert "B has a run with at most 4 steps" in found.sentence


def clock_step(step: int, at_s: float, optimizer: str, recorder_s: float = 0.0) -> TraceStep:
    """A step as the clock alone is recorded."""
    events = [TraceEvent("clock", optimizer, None)]
    return TraceStep(step=step, at_s=at_s, took_s=0.0, recorder_s=recorder_s, events=events)


def test_a_period_is_from_step_to_step_of_one_optimizer_without_the_recorder() -> None:
    """Two optimizers in turn make one iteration; what the recorder took is not the program's."""
    lines = [
        clock_step(0, 1.0, "o0"),
        clock_step(1, 1.1, "o1"),
        clock_step(2, 2.0, "o0", 0.25),
        clock_step(3, 2.1, "o1"),
        clock_step(4, 3.0, "o0"),
    ]
    assert periods(lines) == [0.75, 1.0]


class _Lines(TraceFile):
    """A trace that is in memory."""

    def __init__(self, events: Sequence[TraceEvent]) -> None:
        head = TraceHead(producer="recorder", digest="", level="default", machine={})
        super().__init__(Path("none"), head)
        object.__setattr__(self, "events", events)

    def lines(self) -> Any:
        """One step."""
        events = list(self.events)  # type: ignore[attr-defined]
        yield TraceStep(step=0, at_s=0.0, took_s=0.0, recorder_s=0.0, events=events)


def test_other_calls_with_equal_values_are_the_same_and_told() -> None:
    """What counts are parameters, buffers and losses; other values are not excused by it."""
    values = [TraceEvent("parameter", "o0.g0.p0", "1"), TraceEvent("loss", "l0", "2")]
    more = [values[0], TraceEvent("call", "c0", None), values[1]]
    other = [values[0], TraceEvent("call", "c0", None), TraceEvent("loss", "l0", "3")]
    same, told = compared_across(_Lines(values), _Lines(more))
    assert same.first is None
    assert "the module calls of A and B differ, first in step 0" in told
    different, told = compared_across(_Lines(values), _Lines(other))
    assert different.first is not None
    assert told == ""


def test_the_worse_of_two_answers_decides() -> None:
    """Equal bits do not excuse a slower step, nor a faster one other bits."""
    same, moved = (diverging(step, "B", "A") for step in (None, 2))
    own = [SideRuns(name, diverging(None, "run 2")) for name in "AB"]
    ratio = Ratio(ratio=1.2, low=None, high=None, processes=1)
    slower, faster = (StepSpeed(one, 0.05, ratio=ratio) for one in ("slower", "faster"))
    unsettled = StepSpeed("inconclusive", 0.05, "too few steps")
    for across, speed, outcome in (
        (same, faster, "pass"),
        (same, slower, "fail"),
        (moved, faster, "fail"),
        (same, unsettled, "inconclusive"),
        (moved, unsettled, "fail"),
    ):
        bits = judge_bits(own[0], own[1], across)
        assert judgement(bits, across, speed).conclusion.outcome == outcome


def test_the_answer_to_a_question_does_not_say_no_twice() -> None:
    """The page has the word before it."""
    own = [SideRuns(name, diverging(None, "run 2")) for name in "AB"]
    across = diverging(2, "B", "A")
    (answer,) = judgement(judge_bits(own[0], own[1], across), across, None).answers
    assert (answer.word, answer.sentence[:28]) == ("No", "B first differs from A in st")


def test_the_process_with_most_steps_is_timed(tmp_path: Path) -> None:
    """Nothing recorded is nothing timed."""
    assert clocked([], 3) == ClockedRun(0, None)
    assert list(tmp_path.iterdir()) == []
