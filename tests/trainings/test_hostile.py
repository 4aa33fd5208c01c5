"""The recorder harms no hostile program, and "identical" is claimed only where it is true.

Programs are generated from seeds by `hostile.py`. With `HOSTILE=1000` in the environment it tries
ten times as many, from other seeds. The first 10 always run, the others as variants.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import EVERY, RUNS, Program, program

from xorbench.errors import BAD_INPUT, PASSED, XorbenchError
from xorbench.programs.command_runs import observe, why_not_comparable
from xorbench.programs.conclusion import conclude
from xorbench.records.ended import read_ended
from xorbench.verdicts import OUTCOME_CODES

PROGRAMS = int(os.environ.get("HOSTILE", "100"))
BATCHES = max(1, PROGRAMS // 10)
FIRST = 0 if PROGRAMS == 100 else 10_000
ATTEMPTS = 3  # of a program of which a run crashed; some do so by themselves, in 1 of 24 runs
WORDS = ("python", "script.py")
HERE = Path(__file__).parent


def drive(folder: Path, *words: str) -> None:
    """Run programs by the driver; its standard input stays open, as the lifeline of its runs."""
    with (folder / "driver.txt").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, str(HERE / "hostile.py"), str(folder / "programs"), *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        code = driver.wait(1200)
        assert driver.stdin
        driver.stdin.close()
    assert code == 0, (folder / "driver.txt").read_text()[-2000:]


def code_of(folder: Path) -> int:
    """The exit code of a check from the recorded runs of a program."""
    try:
        ended = [read_ended(path.parent) for path in sorted(folder.glob("run-[0-9]/ended.json"))]
        seen = ended[:1] if why_not_comparable(WORDS, ended[:1]) is not None else ended
        return OUTCOME_CODES[conclude(observe(WORDS, seen)).outcome]
    except XorbenchError:
        return BAD_INPUT


def files(folder: Path) -> dict[str, bytes]:
    """The files that a run has left in its folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def truths(folder: Path) -> dict[str, bytes]:
    """The recorded end of a run."""
    return {name: data for name, data in files(folder).items() if name.startswith("truth")}


def crashed(folder: Path) -> bool:
    """Whether a run of a program ended by SIGABRT or SIGSEGV."""
    codes = [read_ended(folder / name).code for name in RUNS]
    return not {-signal.SIGABRT, -signal.SIGSEGV}.isdisjoint(codes)


def violations(made: Program, folder: Path, code: Callable[[Path], int] = code_of) -> list[str]:
    """Which properties a program's runs break."""
    plain, again, recorded, second = (folder / f"{name}.work" for name in RUNS)
    ends = [read_ended(folder / name) for name in RUNS]
    broken = []
    if len({(one.how, one.code) for one in ends}) > 1:
        broken.append(f"ends differ: {[(one.how, one.code) for one in ends]}")
    same = truths(plain) == truths(again)
    exact = (lambda data: data) if same else len
    expected = {name: exact(data) for name, data in files(plain).items()}
    for run in (recorded, second):
        found = {name: exact(data) for name, data in files(run).items()}
        wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        if wrong:
            broken.append(f"files differ with the recorder: {', '.join(wrong)}")
    if not same and code(folder) == PASSED:
        broken.append("the check passes, but two runs without the recorder differ")
    return [f"seed {made.seed} ({', '.join(made.names)}): {said}" for said in broken]


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one program with a varying end, and of one without."""
    folder = tmp_path_factory.mktemp("some")
    drive(folder, *map(str, (varying().seed, constant().seed)))
    return folder / "programs"


def varying() -> Program:
    """The first program that varies, and whose variation a check need not see at once."""
    return next(one for one in map(program, range(1000)) if one.names[-1].startswith("a head"))


def constant() -> Program:
    """The first program that ends as programs do and does not vary."""
    return next(one for one in map(program, range(1000)) if len(one.names) == 1 and not one.varies)


@pytest.mark.parametrize(
    "batch", [0, *(pytest.param(n, marks=pytest.mark.variant) for n in range(1, BATCHES))]
)
def test_hostile_programs_are_not_harmed_and_not_called_identical(
    batch: int, tmp_path: Path
) -> None:
    """Files, weights and exit codes are as without the recorder; exit 0 only where truths agree."""
    count = PROGRAMS // BATCHES
    seeds = list(range(FIRST + batch * count, FIRST + (batch + 1) * count))
    broken: list[str] = []
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt) / "programs"
        folder.parent.mkdir()
        drive(folder.parent, *map(str, seeds))
        found = {seed: violations(program(seed), folder / str(seed)) for seed in seeds}
        again = attempt + 1 < ATTEMPTS
        seeds = [seed for seed in seeds if again and found[seed] and crashed(folder / str(seed))]
        broken += [
            said for seed, all_said in found.items() if seed not in seeds for said in all_said
        ]
        if not seeds:
            break
    assert broken == [], "\n".join(broken)


def test_the_programs_of_a_seed_are_the_same_and_use_every_ingredient() -> None:
    """A failure can be repeated by its seed, and a thousand seeds leave no ingredient out."""
    made = [program(seed) for seed in range(1000)]
    assert made == [program(seed) for seed in range(1000)]
    assert {name for one in made for name in one.names} == {one.name for one in EVERY}


def test_the_known_share_of_programs_varies(some: Path) -> None:
    """The expectation of the generator is correct: unrecorded runs differ, or not."""
    for made in (varying(), constant()):
        folder = some / str(made.seed)
        same = truths(folder / "plain-1.work") == truths(folder / "plain-2.work")
        assert truths(folder / "plain-1.work")
        assert same == (not made.varies)


def test_a_judge_that_passes_everything_is_caught(some: Path) -> None:
    """Its exit 0 contradicts the comparison without the recorder."""
    made = varying()
    (said,) = violations(made, some / str(made.seed), lambda _folder: PASSED)
    assert "the check passes" in said
    assert violations(constant(), some / str(constant().seed), lambda _folder: PASSED) == []


def test_a_recorder_that_writes_into_a_file_of_the_program_is_caught(tmp_path: Path) -> None:
    """One line of the record at the end of the file of weights."""
    made = constant()
    drive(tmp_path, str(made.seed), "--harm")
    broken = violations(made, tmp_path / "programs" / str(made.seed))
    assert any("files differ with the recorder: truth.bin" in said for said in broken)
