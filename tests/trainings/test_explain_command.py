"""`explain` of a user's training: the evidence, the switches, and the fix."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import Completed, Reported, call_in, reported, run_in

from xorbench.programs.command_run import CommandRun, execute
from xorbench.programs.minimal_set import Explanation, Gives
from xorbench.programs.questions import explain
from xorbench.programs.questions.explain import (
    FixSearch,
    SwitchTried,
    conclude,
    pairs_needed,
    share_of_pairs,
)
from xorbench.programs.step_time import StepSpeed
from xorbench.programs.switches import TRAINING_SWITCHES, ObservedProgram, variable_switch
from xorbench.recorder.switches import SWITCHES
from xorbench.stats.ratio import Ratio

LIMIT_S = 600.0
Program = Callable[..., Completed]


# The evidence


@pytest.mark.parametrize(
    ("share", "pairs"), [(0.3, 13), (0.9, 2), (0.5, 7), (0.1, 44), (1.0, 2), (0.99, 2)]
)
def test_the_number_of_pairs_limits_the_chance_of_a_false_fix(share: float, pairs: int) -> None:
    """At most 1% for a training that still diverges; p is assumed to be at most 0.9."""
    assert pairs_needed(share) == pairs
    assert (1 - min(share, 0.9)) ** pairs <= 0.0101


def test_pairs_are_within_one_command_or_across_two() -> None:
    """Runs of one kind are identical."""
    assert share_of_pairs({"B": [0, 1, 2, 3]}) == (6, 6)
    assert share_of_pairs({"B": [0, 0, 0, 1]}) == (3, 6)
    assert share_of_pairs({"A": [0, 0], "B": [1, 1]}) == (4, 4)
    assert share_of_pairs({"A": [0, 1], "B": [0, 1]}) == (2, 4)
    assert share_of_pairs({"B": [0]}) == (0, 0)


# The answer


def searched(cause: Sequence[str], rest_gives: Gives | None, *, minimal: bool = True) -> FixSearch:
    """A search over three switches, for a training whose pairs all diverge."""
    switches = [SwitchTried(name, f"sets {name}", f"write {name}") for name in "abc"]
    switches.append(SwitchTried("d", "sets d", "write d", "it uses no d"))
    rest = tuple(name for name in "abc" if name not in cause)
    found = Explanation(tuple(cause), minimal, rest, rest_gives)
    return FixSearch(
        runs=20, differ=6, pairs=6, first="in step 0", switches=switches, explanation=found
    )


def test_a_fix_is_reported_with_evidence_cost_and_hint() -> None:
    """The sentence has the switch and its cost; the details have the other switches."""
    search = searched("b", "A")
    search.cost = StepSpeed("slower", 0.05, ratio=Ratio(ratio=1.25, low=1.2, high=1.3, processes=5))
    answer = conclude(search)
    assert answer.outcome == "fail"
    assert answer.sentence.startswith("fixed by b: all runs are identical (2 pairs)")
    assert answer.sentence.endswith("step time 1.250× [1.200, 1.300]")
    assert answer.hint == "write b"
    details = dict(answer.details)
    assert details["the other switches"] == "a, c: they do not suffice"
    assert details["skipped"] == "d (it uses no d)"


def test_a_second_fix_among_the_other_switches_is_reported() -> None:
    """If the other switches also suffice, the fix is not unique."""
    assert "second fix" in dict(conclude(searched("b", "B")).details)["the other switches"]


def test_a_fix_is_known_although_the_other_switches_were_not_tried() -> None:
    """A fix and an inconclusive result would contradict each other."""
    answer = conclude(searched("a", None))
    assert answer.outcome == "fail"
    assert answer.sentence.startswith("fixed by a")
    assert "not tried" in dict(answer.details)["the other switches"]


@pytest.mark.parametrize(
    "search",
    [searched(cause, gives) for cause in ("", "a", "ab") for gives in ("A", "B", None)]
    + [searched("ab", "A", minimal=False), FixSearch(differ=2, pairs=6)],
)
def test_an_inconclusive_search_names_no_fix(search: FixSearch) -> None:
    """The sentence and the exit code agree."""
    answer = conclude(search)
    assert not (answer.outcome == "inconclusive" and "fixed by" in answer.sentence)


@pytest.mark.parametrize(
    ("search", "outcome", "message"),
    [
        (searched("", None), "fail", "no switch makes all runs identical"),
        (searched("ab", "A", minimal=False), "inconclusive", "not enough evidence after 20 runs"),
        (FixSearch(differ=2, pairs=6), "inconclusive", "not enough evidence"),
        (FixSearch(pairs=6, identical="bitwise identical in 4 runs"), "pass", "nothing to explain"),
        (FixSearch(runs=4, pairs=6, exhausted=True), "inconclusive", "not enough evidence"),
    ],
)
def test_an_unknown_result_is_not_a_fix(search: FixSearch, outcome: str, message: str) -> None:
    """A search that was stopped or not started is inconclusive."""
    answer = conclude(search)
    assert (answer.outcome, message in answer.sentence) == (outcome, True), answer.sentence


# The switches


def test_the_switches_of_the_recorder_match_the_table() -> None:
    """Both tables have the same names, and each switch has an effect."""
    recorded = {switch.name for switch in TRAINING_SWITCHES if switch.recorded}
    assert recorded == set(SWITCHES)
    assert all(switch.recorded or switch.variables for switch in TRAINING_SWITCHES)


def test_a_switch_without_effect_has_a_reason() -> None:
    """The reason depends on the properties of the program."""
    by_name = {switch.name: switch for switch in TRAINING_SWITCHES}
    bare = ObservedProgram({"PYTHONHASHSEED": "7"}, frozenset({"python", "torch cpu"}))
    full = ObservedProgram(
        {"PYTHONHASHSEED": "random"},
        frozenset({"python", "numpy", "torch cpu", "torch cuda:0"}),
        frozenset({"loader processes", "compilation"}),
    )
    idle = {name for name, switch in by_name.items() if switch.idle(bare)}
    named = {"hash-seed", "numpy-seed", "no-benchmark", "no-loader-processes", "no-compile"}
    assert idle == named
    assert not any(switch.idle(full) for switch in by_name.values())
    assert variable_switch("A", "1").idle(ObservedProgram({"A": "1"}))
    assert not variable_switch("A", "1").idle(ObservedProgram({"A": "2"}))


SHOWS = """
import random, json
import numpy as np, torch
from torch.utils.data import DataLoader
torch.set_num_threads(2)
torch.use_deterministic_algorithms(False)
torch.backends.cudnn.benchmark = True
own = torch.Generator(); own.seed()
class Items(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return torch.tensor([float(i)])
loader = DataLoader(Items(), 2, num_workers=1, persistent_workers=True)
random.seed()
def draws():
    return [random.random(), random.Random().random(), np.random.rand(),
            np.random.default_rng().random(), torch.rand(1).item(),
            torch.rand(1, generator=own).item()]
first = draws()
random.seed(3); np.random.seed(3); torch.manual_seed(3); own.manual_seed(3)
seeded = [random.random(), np.random.rand(), torch.rand(1).item(),
          torch.rand(1, generator=own).item(), np.random.default_rng(3).random()]
print(json.dumps({
    "draws": first, "seeded": seeded, "hash": hash("a set"),
    "threads": torch.get_num_threads(),
    "deterministic": torch.are_deterministic_algorithms_enabled(),
    "benchmark": torch.backends.cudnn.benchmark,
    "loader": loader.num_workers,
    "generator": [isinstance(torch.default_generator, torch.Generator), str(own.device)],
}))
"""


def shown(folder: Path, names: Sequence[str]) -> dict[str, object]:
    """The settings and random numbers of a program with these switches."""
    known = {switch.name: switch for switch in TRAINING_SWITCHES}
    variables = {k: v for name in names for k, v in known[name].variables.items()}
    recorded = [name for name in names if known[name].recorded]
    (folder / "shows.py").write_text(SHOWS)
    run = CommandRun((sys.executable, "shows.py"), folder, None, 120.0)
    number = len(list(folder.glob("run-*")))
    options = {"switches": recorded, "notice": not names}
    ended = execute(run, 1, folder, folder / f"run-{number}", options, variables=variables)
    assert ended.code == 0, ended.last_lines()
    presence = (ended.records / "presence.jsonl").read_text()
    assert '"failed"' not in presence
    found: dict[str, object] = json.loads((ended.folder / "stdout.txt").read_text())
    return {**found, "presence": presence}


def test_every_switch_keeps_its_setting_and_the_seeds_of_the_program(tmp_path: Path) -> None:
    """Unseeded random numbers repeat with the switches; seeded ones are unchanged."""
    names = [switch.name for switch in TRAINING_SWITCHES]
    plain, switch, second = (shown(tmp_path, verdicts_of) for verdicts_of in ((), names, names))
    assert switch["draws"] == second["draws"]
    plain_draws, draws = plain["draws"], switch["draws"]
    assert isinstance(plain_draws, list)
    assert isinstance(draws, list)
    unlike = [a != b for a, b in zip(plain_draws, draws, strict=True)]
    # an unseeded generator of PyTorch has a fixed seed, so one random draw may agree
    assert unlike[:4] == [True] * 4
    assert unlike[5]
    assert switch["seeded"] == plain["seeded"]
    assert switch["hash"] == second["hash"] != plain["hash"]
    settings = ("threads", "deterministic", "benchmark", "loader")
    assert [plain[name] for name in settings] == [2, False, True, 1]
    assert [switch[name] for name in settings] == [1, True, False, 0]
    assert switch["generator"] == [True, "cpu"]
    assert "loader processes" in str(plain["presence"])
    assert "compilation" not in str(plain["presence"])


# Real searches, one of them for a bug of the corpus; `corpus.py --explain` covers all bugs


CORPUS = Path(__file__).parents[1] / "corpus"
SEEDED = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    model(torch.ones(8, 3)).mean().backward()
    optimizer.step()
"""
UNSEEDED = SEEDED.replace("torch.manual_seed(0)", "")


@pytest.mark.variant
def test_an_existing_fix_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing seed of PyTorch's generator, among two switches, by real runs."""
    two = [switch for switch in TRAINING_SWITCHES if switch.name in ("python-seed", "torch-seed")]
    monkeypatch.setattr(explain, "TRAINING_SWITCHES", tuple(two))
    (tmp_path / "b.py").write_text(UNSEEDED)
    done = call_in(tmp_path, "explain", "--no-cost", "--json", "--", sys.executable, "b.py")
    assert (done.returncode, json.loads(done.stdout)["fix"]) == (1, ["torch-seed"])


@pytest.mark.variant
def test_a_fix_that_only_sets_seeds_is_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed takes no time, so no run is spent on it."""
    two = [switch for switch in TRAINING_SWITCHES if switch.name in ("python-seed", "torch-seed")]
    monkeypatch.setattr(explain, "TRAINING_SWITCHES", tuple(two))
    (tmp_path / "b.py").write_text(UNSEEDED)
    done = call_in(tmp_path, "explain", "--processes", "4", "--json", "--", sys.executable, "b.py")
    result = json.loads(done.stdout)
    assert result["details"]["step time"] == "not measured: the fix only sets seeds"
    assert "step time" not in result["sentence"]
    assert list(tmp_path.glob("results/checks/*/turns-*")) == []


PINNED = """
import os, time, torch
torch.set_num_threads(1)
if "PINNED" in os.environ:
    torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(9):
    optimizer.zero_grad()
    model(torch.ones(8, 3)).mean().backward()
    time.sleep(0.2 if "PINNED" in os.environ else 0.05)
    optimizer.step()
"""


@pytest.mark.variant
def test_the_cost_of_a_fix_is_measured_turn_by_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step of 200 ms with the fix against 50 ms without it."""
    monkeypatch.setattr(explain, "TRAINING_SWITCHES", ())
    (tmp_path / "b.py").write_text(PINNED)
    words = ("explain", "--env", "PINNED=1", "--processes", "4", "--json", "--", sys.executable)
    result = json.loads(call_in(tmp_path, *words, "b.py").stdout)
    assert result["fix"] == ["PINNED=1"]
    assert result["cost"]["verdict"] == "slower", result["cost"]
    assert 2 < result["cost"]["ratio"] < 6
    assert len(result["cost"]["pairs"]["ratios"]) >= 3


@pytest.mark.variant
def test_a_missing_fix_is_reported() -> None:
    """A seed from the time has no fix."""
    script = "seed_from_time"
    done = subprocess.run(
        [sys.executable, str(CORPUS / "corpus.py"), "--explain", f"{script}.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"| {script}.py |") == 1


def test_every_bug_of_the_corpus_declares_its_fix_by_known_names() -> None:
    """Some have a fix and some have none; correct scripts have no entry."""
    cases = tomllib.loads((CORPUS / "cases.toml").read_text())["case"]
    known = {switch.name for switch in TRAINING_SWITCHES}
    fixes = [case.get("fixes") for case in cases if case["exit"] == 1]
    assert all(fix is not None for fix in fixes)
    assert {name for fix in fixes for text in fix for name in text.split("+")} <= known
    assert [] in fixes
    assert not any("fixes" in case for case in cases if case["exit"] == 0)


FOR_CI = ("--json", "--junit", "j.xml", "--markdown", "m.md")


def explained_for_ci(folder: Path, *arguments: str, program: Program = run_in) -> Completed:
    """Explain a seeded `a.py` or an unseeded `b.py` with CI output files."""
    (folder / "a.py").write_text(SEEDED)
    (folder / "b.py").write_text(UNSEEDED)
    (folder / "j.xml").write_text("of an earlier job")
    env = {**os.environ, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    return program(folder, "explain", *FOR_CI, *arguments, env=env)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """B lacks the seed of A; the runs end before the search is complete."""
    words = ("--against", f"{sys.executable} a.py", "--max-runs", "8")
    words = (*words, "--", sys.executable, "b.py")
    return reported(
        tmp_path_factory, "explain-both", lambda folder: explained_for_ci(folder, *words)
    )


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A reproducible training."""
    words = ("--processes", "4", "--", sys.executable, "a.py")
    return reported(
        tmp_path_factory,
        "explain-correct",
        lambda folder: explained_for_ci(folder, *words, program=call_in),
    )


def test_a_switch_makes_two_commands_identical_within_the_limit_of_runs(both: Reported) -> None:
    """All switches together fix it, then the limit is reached: exit code 3."""
    result = both.result
    assert both.done.returncode == 3, both.done.stderr
    assert (result["runs"], result["share"]) == (8, 1.0)
    assert "torch-seed" in result["sentence"]
    assert "suffices, but a part of it may too" in result["sentence"]
    assert result["fix"] is None


def test_a_reproducible_training_needs_no_explanation(correct: Reported) -> None:
    """Exit code 0 after the requested number of runs."""
    assert (correct.done.returncode, correct.result["runs"]) == (0, 4)
    assert correct.result["sentence"].startswith("nothing to explain: bitwise identical in 4 runs")


@pytest.mark.parametrize("which", ["both", "correct"])
def test_every_report_of_explain_begins_with_the_sentence(
    which: str, request: pytest.FixtureRequest
) -> None:
    """The Markdown file, the step summary, the report and the page have the sentence."""
    found: Reported = request.getfixturevalue(which)
    message = found.result["sentence"][1:]
    texts = [found.folder / "m.md", found.folder / "summary.md", found.made / "report.md"]
    assert [message in path.read_text().splitlines()[0] for path in texts] == [True] * 3
    assert message in (found.made / "report.html").read_text()
    assert json.loads((found.made / "result.json").read_text()) == found.result


def test_an_explanation_is_one_junit_case_and_an_inconclusive_one_an_error(
    both: Reported, correct: Reported
) -> None:
    """Passed if nothing differs, an error without enough evidence."""
    roots = [ET.parse(switch.folder / "j.xml").getroot() for switch in (both, correct)]
    assert [(r.attrib["tests"], r.attrib["errors"]) for r in roots] == [("1", "1"), ("1", "0")]
    verdicts = [switch.result["verdicts"] for switch in (both, correct)]
    assert [[v["outcome"] for v in verdicts_of] for verdicts_of in verdicts] == [
        ["inconclusive"],
        ["pass"],
    ]


def test_the_report_has_a_row_for_each_run_and_each_switch(both: Reported) -> None:
    """A row of a run has its side and its switches."""
    runs, switches = (rows(both.made / "report.md", title) for title in ("Runs", "Switches"))
    assert len(runs) == both.result["runs"]
    assert {row["side"] for row in runs} == {"A", "B"}
    assert [row["switches"] == "" for row in runs] == [True] * 4 + [False] * 4
    assert [row["switch"] for row in switches] == [switch.name for switch in TRAINING_SWITCHES]


def rows(path: Path, title: str) -> list[dict[str, str]]:
    """The table under a title of a Markdown file."""
    lines = path.read_text().partition(f"\n## {title}\n\n")[2].partition("\n\n")[0].splitlines()
    head, *body = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return [dict(zip(head, cells, strict=True)) for cells in body[1:]]


def test_only_the_requested_files_remain(both: Reported) -> None:
    """The copies are deleted, and no partial file remains."""
    names = ["a.py", "b.py", "j.xml", "m.md", "results", "summary.md"]
    assert sorted(path.name for path in both.folder.iterdir()) == names
    assert not list(both.made.rglob(".*"))


def test_a_command_that_fails_is_not_explained(tmp_path: Path) -> None:
    """The answer is that of `check`."""
    done = call_in(tmp_path, "explain", "--json", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert done.returncode == 1
    assert "the command failed in run 1: exit code 7" in json.loads(done.stdout)["sentence"]


def test_dry_run_prints_the_switches_and_the_limit_of_runs(tmp_path: Path) -> None:
    """It makes no run."""
    words = ("--dry-run", "--max-runs", "50", "--env", "MKL_CBWR=AVX2", "--", "no-such", "x")
    assert call_in(tmp_path, "explain", *words).returncode == 2
    done = call_in(tmp_path, "explain", *words[:-2], sys.executable, "x.py")
    assert done.returncode == 0
    assert "at most 50 runs in total" in done.stdout
    assert "no-compile, MKL_CBWR=AVX2" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--env", "X", "--", "python"), "--env: must be NAME=VALUE, got 'X'"),
        (("--env", "PYTHONPATH=x", "--", "python"), "--env: PYTHONPATH is set by xorbench"),
        (("--env", "X=1", "--env", "X=2", "--", "python"), "--env: X is given twice"),
        (("--max-runs", "3", "--", "python"), "--max-runs: must be from 4"),
        (("--processes", "3", "--", "python"), "--processes: must be from 4"),
        (("--max-trainings", "9", "--", "python"), "--max-trainings: cannot be used"),
        (("--against", "", "--", "python"), "--against: empty"),
        (("one", "two", "--no-cost"), "--no-cost: cannot be used with two cases"),
        (("one",), "explain: 1 cases given"),
        ((), "explain: 0 cases given"),
        (("one", "two", "--junit", "j.xml"), "--junit: cannot be used with two cases"),
        (("one", "two", "--markdown", "m.md"), "--markdown: cannot be used with two cases"),
        (("--junit", "no/j.xml", "--", "python"), "--junit: cannot write to 'no/j.xml'"),
        (("--junit", "j.xml", "--max-runs", "3", "--", "python"), "--max-runs: must be from 4"),
    ],
)
def test_bad_input_of_explain_names_the_option(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    """One line, exit code 2, nothing is written."""
    done = call_in(tmp_path, "explain", *words)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_function_leaves_no_files(tmp_path: Path) -> None:
    """The first run detects it; records and CI output files are removed."""
    done = call_in(tmp_path, "explain", *FOR_CI, "no_such:function")
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
