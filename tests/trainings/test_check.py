"""`check` and `diff` of real programs: answer, first difference, files and exit code."""

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import Completed, Reported, call_in, once, reported, run_in
from gfm import problems

TRAINING = """
import sys, torch
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    noise = torch.zeros(8, 1)
    if step == 2 and NOISY:
        noise[5] = torch.rand(1, generator=own)
    loss = ((model(torch.ones(8, 3)) - noise) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CORRECT = TRAINING.replace("NOISY", "False")
NOISY = TRAINING.replace("NOISY", "True").replace(
    "model =", "own = torch.Generator(); own.seed()\nmodel =", 1
)
LIMIT_S = 120.0


def written(folder: Path, script: str, *options: str) -> tuple[str, ...]:
    """Write a script to a folder; returns the words that check it."""
    (folder / "train.py").write_text(script)
    return ("check", *options, "--", sys.executable, "train.py")


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A reproducible training."""

    def make(folder: Path) -> Completed:
        words = written(folder, CORRECT, "--json", "--junit", "correct.xml")
        return run_in(folder, *words, timeout=LIMIT_S)

    return reported(tmp_path_factory, "correct", make)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A training with one unseeded label in step 2."""

    def make(folder: Path) -> Completed:
        files = ("--junit", "noisy.xml", "--markdown", "noisy.md")
        return call_in(folder, *written(folder, NOISY, "--json", *files))

    return reported(tmp_path_factory, "noisy", make)


def test_a_reproducible_training_passes(correct: Reported) -> None:
    """Exit code 0, and the answer states its coverage."""
    assert correct.done.returncode == 0
    assert correct.result["outcome"] == "pass"
    assert correct.result["component"] is None
    assert "4 steps, 4 parameters" in correct.result["details"]["coverage"]


def test_a_difference_is_reported_with_step_component_and_line(noisy: Reported) -> None:
    """The label of step 2, which only the loss uses, at the line that uses it."""
    assert noisy.done.returncode == 1
    assert (noisy.result["outcome"], noisy.result["component"]) == ("fail", "data")
    assert noisy.result["step"] == 2
    assert "train.py:11" in noisy.result["details"]["detailed recording"]


def test_the_differing_element_is_reported(noisy: Reported) -> None:
    """One of the eight labels, by its index."""
    assert noisy.result["details"]["elements"] == "1 of 8 differ"
    assert noisy.result["details"]["first element"].startswith("[5, 0]: ")


def test_global_generators_are_not_blamed_for_a_separate_generator(noisy: Reported) -> None:
    """Global generators are unused, so the hint names the line of the separate one."""
    assert "seed() of a generator at train.py:4" in noisy.result["hint"]
    assert "manual_seed" not in noisy.result["hint"]


def test_junit_has_a_case_for_each_comparison(correct: Reported, noisy: Reported) -> None:
    """Passed if reproducible, else failed."""
    for run, name, failures in ((correct, "correct.xml", 0), (noisy, "noisy.xml", 1)):
        root = ET.parse(run.folder / name).getroot()
        assert len(list(root.iter("testcase"))) == 1
        assert len(list(root.iter("failure"))) == failures


def test_every_report_leads_with_the_sentence(noisy: Reported) -> None:
    """The Markdown file, the Markdown report, the page and the JSON agree."""
    sentence = noisy.result["sentence"]
    line = sentence[0].upper() + sentence[1:]
    for path in (noisy.folder / "noisy.md", noisy.made / "report.md"):
        assert line in "\n".join(path.read_text().splitlines()[:6])
    rest = sentence.removeprefix("not identical: ")  # the page shows "No" instead
    assert rest[1:] in (noisy.made / "report.html").read_text()
    assert json.loads((noisy.made / "result.json").read_text()) == noisy.result


@pytest.mark.parametrize("which", ["correct", "noisy"])
def test_the_report_of_a_check_renders(which: str, request: pytest.FixtureRequest) -> None:
    """GitHub renders each table of `report.md`."""
    checked: Reported = request.getfixturevalue(which)
    page = checked.made / "report.md"
    assert problems(page.read_text(), page) == []


def test_only_the_results_remain(correct: Reported) -> None:
    """The copies are deleted, and the user's folder is unchanged."""
    assert sorted(path.name for path in correct.folder.iterdir()) == [
        *("correct.xml", "results", "train.py"),
    ]
    assert not list(correct.made.rglob("train.py"))


@pytest.mark.parametrize("which", ["correct", "noisy"])
def test_a_finished_check_can_be_judged_again(which: str, request: pytest.FixtureRequest) -> None:
    """Its records give the same answer and exit code."""
    first: Reported = request.getfixturevalue(which)
    again = call_in(first.folder, "check", "--json", "--from", str(first.made))
    assert again.returncode == first.done.returncode
    assert json.loads(again.stdout)["sentence"] == first.result["sentence"]


def test_a_damaged_record_is_named_by_file_and_line(noisy: Reported, tmp_path: Path) -> None:
    """In one line, with exit code 2."""
    folder = tmp_path / "checks"
    shutil.copytree(noisy.made, folder)
    record = next((folder / "run-2" / "records").glob("*-*.jsonl"))
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join([*lines[:2], '{"step": "two"}\n', *lines[3:]]))
    done = call_in(tmp_path, "check", "--from", str(folder))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert record.name in line
    assert ":3: " in line


def test_a_check_without_its_first_run_is_named(noisy: Reported, tmp_path: Path) -> None:
    """In one line that names the file, with exit code 2."""
    folder = tmp_path / "checks"
    shutil.copytree(noisy.made, folder)
    shutil.rmtree(folder / "run-1")
    done = call_in(tmp_path, "check", "--from", str(folder))
    (line,) = done.stderr.splitlines()
    assert (done.returncode, "run-1/ended.json" in line) == (2, True)


def cut_short(made: Path, folder: Path, how: str, *, number: int) -> int:
    """The exit code if run 2 has two of its steps and run `number` was killed."""
    shutil.copytree(made, folder)
    record = next((folder / "run-2" / "records").glob("*-*.jsonl"))
    lines = record.read_text().splitlines(keepends=True)
    end = {**json.loads(lines[-1]), "steps": 2, "final": []}
    ended = [] if number == 2 else [json.dumps(end) + "\n"]
    record.write_text("".join([*lines[:3], *ended]))
    path = folder / f"run-{number}" / "ended.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"how": how, "code": None}))
    return call_in(folder, "check", "--from", str(folder)).returncode


@pytest.mark.parametrize("how", ["timeout", "abandoned"])
def test_a_killed_run_is_not_a_difference(correct: Reported, tmp_path: Path, how: str) -> None:
    """It has fewer steps, which are identical: exit code 3."""
    assert cut_short(correct.made, tmp_path / "checks", how, number=2) == 3


def test_fewer_steps_than_a_killed_run_are_a_difference(correct: Reported, tmp_path: Path) -> None:
    """Run 1 was killed after four steps; run 2 ended on its own after two."""
    assert cut_short(correct.made, tmp_path / "checks", "timeout", number=1) == 1


def test_a_check_that_was_stopped_in_its_second_run_is_inconclusive(
    correct: Reported, tmp_path: Path
) -> None:
    """A single run is not compared: exit code 3."""
    folder = tmp_path / "checks"
    shutil.copytree(correct.made, folder)
    (folder / "run-2" / "ended.json").unlink()
    done = call_in(tmp_path, "check", "--from", str(folder))
    assert done.returncode == 3, done.stderr


def test_a_check_that_was_stopped_before_its_first_run_is_refused(
    correct: Reported, tmp_path: Path
) -> None:
    """One line, exit code 2."""
    shutil.copy(correct.made / "check.json", tmp_path)
    done = call_in(tmp_path, "check", "--from", ".")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no finished run" in done.stderr


def test_dry_run_prints_the_plan_and_runs_nothing(tmp_path: Path) -> None:
    """The script would create a file."""
    words = written(tmp_path, "open('trace-of-me', 'w')", "--dry-run", "--in-place")
    done = call_in(tmp_path, *words)
    assert done.returncode == 0
    assert "train.py" in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


def test_a_function_is_checked_like_a_command(tmp_path: Path) -> None:
    """It is imported from the working folder and called in fresh interpreters."""
    body = CORRECT.replace("int(sys.argv[1]) if len(sys.argv) > 1 else 0", "0")
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    (tmp_path / "mine.py").write_text(f"def train():\n{lines}\n")
    done = call_in(tmp_path, "check", "--json", "mine:train")
    assert done.returncode == 0
    assert "4 steps" in json.loads(done.stdout)["sentence"]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with traces `a` and `b` of one command, and `c` of a different seed."""

    def make(folder: Path) -> None:
        (folder / "train.py").write_text(CORRECT)
        for name, words in (("a", ()), ("b", ()), ("c", ("7",))):
            command = ("trace", "-o", f"{name}.trace", "--", sys.executable, "train.py", *words)
            assert call_in(folder, *command).returncode == 0

    return once(tmp_path_factory, "traces", make)


def test_traces_of_one_command_are_identical(traces: Path) -> None:
    """`diff` exits with 0."""
    done = run_in(traces, "diff", "a.trace", "b.trace", "--json", timeout=LIMIT_S)
    assert done.returncode == 0
    assert json.loads(done.stdout)["outcome"] == "pass"


def test_traces_of_two_seeds_differ_in_the_first_parameter(traces: Path) -> None:
    """`diff` exits with 1 and notes that the commands differ."""
    done = call_in(traces, "diff", "a.trace", "c.trace", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert (result["step"], result["component"]) == (0, "parameters")
    assert any(note.startswith("command: ") for note in result["notes"])


def test_tracing_does_not_change_the_output_of_the_program(tmp_path: Path) -> None:
    """Its output is unchanged, and its failure is reported."""
    (tmp_path / "train.py").write_text(CORRECT + "print('weights', 17)\nraise SystemExit(5)\n")
    words = ("trace", "-o", "t.trace", "--", sys.executable, "train.py")
    done = run_in(tmp_path, *words, timeout=LIMIT_S)
    assert done.stdout == "weights 17\n"
    assert done.returncode == 1
    assert "5" in done.stderr


# Limits of the answer


def test_weights_changed_before_os_exit_are_inconclusive(tmp_path: Path) -> None:
    """The record ends with the last step; exit code 3, with the reason and a hint."""
    script = CORRECT + "import os\nwith torch.no_grad(): model[0].weight.normal_()\nos._exit(0)\n"
    done = call_in(tmp_path, *written(tmp_path, script, "--json"))
    result = json.loads(done.stdout)
    assert (done.returncode, result["outcome"]) == (3, "inconclusive")
    assert "after 4 steps, identical so far: its record has no last line" in result["sentence"]
    assert "sys.exit()" in result["hint"]


def test_weights_changed_after_the_last_step_are_a_difference(tmp_path: Path) -> None:
    """A program that returns is compared to its end."""
    script = CORRECT + "import time\nwith torch.no_grad(): model[0].weight += time.time() % 1\n"
    done = call_in(tmp_path, *written(tmp_path, script, "--json"))
    assert done.returncode == 1
    assert "in the final state, in parameter 0.weight" in json.loads(done.stdout)["sentence"]


THREADS = """
import threading
def train(seed):
    import torch
    model = torch.nn.Linear(3, 1)
    torch.nn.init.constant_(model.weight, seed)
    torch.nn.init.constant_(model.bias, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        model(torch.ones(8, 3)).square().mean().backward()
        optimizer.step()
        turns[seed].release(); turns[1 - seed].acquire()
turns = [threading.Semaphore(0), threading.Semaphore(0)]
threads = [threading.Thread(target=train, args=(seed,)) for seed in (0, 1)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_concurrent_trainings_are_compared_thread_by_thread(tmp_path: Path) -> None:
    """The order of their steps is random, so each thread has its own record."""
    done = call_in(tmp_path, *written(tmp_path, THREADS, "--json"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["sentence"] == "bitwise identical in 2 runs: 3 steps in each of 2 processes"
    assert "several threads of the program train" in result["notes"][0]


def test_the_answer_lists_the_parts_that_were_not_compared(tmp_path: Path) -> None:
    """Evaluation, a saved file, and a process that never loads the recorder; it passes."""
    more = """
import subprocess
model.eval()(torch.ones(8, 3))
torch.save(model.state_dict(), "final.pt")
subprocess.run([sys.executable, "-I", "-c", "pass"])
subprocess.run([sys.executable, "-c", "'recorded'"])
"""
    done = call_in(tmp_path, *written(tmp_path, CORRECT + more))
    assert done.returncode == 0, done.stderr
    (line,) = (row for row in done.stdout.splitlines() if "not compared" in row)
    assert "evaluation after the last step (1 call);" in line
    assert "saved files   1 file identical" in done.stdout
    assert "processes without the recorder (python" in line
    assert "-I -c pass)" in line
    assert "recorded'" not in line


def test_a_trace_does_not_write_to_reused_file_descriptors(tmp_path: Path) -> None:
    """A program that closes all descriptors keeps its own files of 70,000 bytes."""
    closing = """
    import os
    os.closerange(3, 200)
    own = os.open(f"ck{step}.bin", os.O_RDWR | os.O_CREAT)
    os.write(own, b"x" * 70_000)
"""
    (tmp_path / "train.py").write_text(CORRECT + closing)
    done = call_in(tmp_path, "trace", "-o", "t.trace", "--", sys.executable, "train.py")
    assert done.returncode == 0, done.stderr
    assert [path.stat().st_size for path in sorted(tmp_path.glob("ck*.bin"))] == [70_000] * 4
    assert len((tmp_path / "t.trace").read_text().splitlines()) == 1 + 4 + 1


def test_the_processes_of_a_pool_need_no_last_line(tmp_path: Path) -> None:
    """The pool terminates them; their steps are identical, and the check passes."""
    script = """
import multiprocessing, torch
def fold(seed):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        model(torch.ones(8, 3)).square().mean().backward()
        optimizer.step()
    return 1
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(sum(pool.map(fold, [0, 1], chunksize=2)))
"""
    done = call_in(tmp_path, *written(tmp_path, script, "--json"))
    assert done.returncode == 0, done.stdout
    assert "6 steps" in json.loads(done.stdout)["sentence"]
