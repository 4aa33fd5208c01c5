"""The golden values: the file is correct, and every backend gives them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

import xorbench
from xorbench.errors import BadFile
from xorbench.machine.universal import golden, probe
from xorbench.machine.universal.backends import BACKENDS
from xorbench.machine.universal.golden import Checked
from xorbench.machine.universal.spec import UniversalRecipe

ROOT = Path(xorbench.__file__).parents[1]
backends = pytest.mark.parametrize("name", ["numpy", "torch", "numba"])

EXPECTED_DIGESTS = """
from xorbench.machine.universal import golden
from xorbench.machine.universal.backends import BACKENDS
from xorbench.machine.universal.spec import UniversalRecipe
loaded = BACKENDS["{name}"].load()
checked = list(golden.check_probe(loaded.evaluate))
checked += golden.check_training(loaded.train, UniversalRecipe(), 3)
wrong = [row for row in checked if not row.passed]
{switch}
print(switched, *wrong)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread of torch, since two synchronize slowly under load."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def failed(checked: object) -> list[Checked]:
    """The failed checks."""
    return [row for row in checked if not row.passed]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["torch", "numba"])
def test_backend_gives_the_specified_values(name: str) -> None:
    """Every digest, every score and the combined digest of 256 seeds are equal."""
    checked = list(golden.check_specified(BACKENDS[name].load().train))
    assert len(checked) == 7
    assert failed(checked) == []


def test_oracle_gives_the_specified_values_of_single_trainings() -> None:
    """Every digest and score of the table is equal; --write also checks the 256 seeds."""
    checked = list(islice(golden.check_specified(BACKENDS["numpy"].load().train), 6))
    assert failed(checked) == []


def test_numba_gives_every_golden_value() -> None:
    """These are probe, epoch digests, each training of the file, and the combined digest."""
    loaded = BACKENDS["numba"].load()
    checked = list(golden.check(loaded.train, loaded.evaluate))
    assert len(checked) == len(probe.GROUPS) + 1 + 32 + 11 * 8 + 1
    assert failed(checked) == []


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("batch_size", [32, 125, 500])
def test_torch_gives_golden_values_of_more_batch_sizes(batch_size: int, drop_last: bool) -> None:
    """The specification's table has only batch sizes 64, 128 and 256."""
    recipe = UniversalRecipe(batch_size=batch_size, drop_last=drop_last)
    assert failed(golden.check_training(BACKENDS["torch"].load().train, recipe, 2)) == []


@backends
def test_backend_gives_the_golden_epoch_digests(name: str) -> None:
    """The digest after each of 100 epochs of seed 0 is equal."""
    checked = golden.check_epoch_digests(BACKENDS[name].load().train)
    assert Checked("epoch digests of seed 0", "100 epochs", "100 epochs") == checked


def test_file_holds_what_the_specification_gives() -> None:
    """The file was not made by a wrong oracle."""
    loaded = golden.load()
    for row in golden.SPECIFIED:
        recipe = UniversalRecipe(batch_size=row.batch_size, drop_last=row.drop_last)
        answer = loaded.answer(recipe, row.seed)
        assert answer is not None
        assert answer.sha256.startswith(row.begins)
        assert row.correct == answer.correct
    assert loaded.combined == golden.SPECIFIED_COMBINED


def test_file_holds_the_plan() -> None:
    """It has exactly the batch sizes, drop_last values and seeds of --write."""
    expected = [(size, drop, list(range(seeds))) for size, drop, seeds in golden.PLAN]
    actual = [
        (recipe.batch_size, recipe.drop_last, [answer.seed for answer in answers])
        for recipe, answers in golden.load().answers.items()
    ]
    assert expected == actual


def test_drop_last_has_no_effect_for_a_dividing_batch_size() -> None:
    """125 and 500 divide 2,500, so both values give identical results."""
    answers = golden.load().answers
    for batch_size in (125, 500):
        recipe = UniversalRecipe(batch_size=batch_size)
        assert answers[recipe] == answers[replace(recipe, drop_last=False)]


def test_epoch_digests_ends_in_the_final_digest() -> None:
    """The last epoch digest is the digest of the training."""
    answer = golden.load().answer(UniversalRecipe(), 0)
    assert answer is not None
    assert answer.sha256 == golden.load().epoch_digests[-1]


def test_unknown_training_has_no_golden_value() -> None:
    """A recipe or seed outside the file gives None."""
    assert golden.load().answer(UniversalRecipe(epochs=99), 0) is None
    assert golden.load().answer(UniversalRecipe(), 32) is None


def test_comparing_epoch_digests_names_the_first_epoch_that_differs() -> None:
    """Epochs count from 0."""
    checked = golden.compare_epoch_digests(["a", "x", "y"], ["a", "b", "c"])
    assert Checked("epoch digests of seed 0, epoch 1", "b", "x") == checked
    assert not checked.passed


@pytest.mark.parametrize(
    ("actual", "place"), [("abc", ""), ("abd", 2), ("ab", 2), ("abcd", 3), ("", 0)]
)
def test_a_missing_or_an_extra_epoch_differs(actual: str, place: int | str) -> None:
    """The number of epochs must be equal."""
    checked = golden.compare_epoch_digests(list(actual), list("abc"))
    where = "" if place == "" else f", epoch {place}"
    assert checked.what == f"epoch digests of seed 0{where}"
    assert checked.passed is (place == "")


def test_a_different_version_of_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file, and the hint the command that writes it."""
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({"schema_version": 99}), encoding="utf-8")
    monkeypatch.setattr(golden, "PATH", path)
    golden.load.cache_clear()
    with pytest.raises(BadFile, match=r"golden\.json: schema_version must be 1, got 99"):
        golden.load()


def test_written_text_reads_back() -> None:
    """The layout is JSON, and the committed file has exactly this layout."""
    text = golden.PATH.read_text(encoding="utf-8")
    assert golden.to_text(json.loads(text)) == text


def test_check_of_an_unknown_backend_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the option, and the hint the backends."""
    assert golden.main(["--check", "--backends", "abacus"]) == 2
    assert "--backends: no backend abacus" in capsys.readouterr().err


# ------------------------------------------------------------------------ instruction sets


def run_switched(name: str, switch: str, environment: dict[str, str]) -> list[str]:
    """The switch's name, then the failed checks, in a separate process."""
    code = EXPECTED_DIGESTS.format(name=name, switch=switch)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_torch_digest_does_not_depend_on_the_instruction_set(capability: str) -> None:
    """Three seeds and the probe are golden with each set of kernels."""
    import torch

    order = ["DEFAULT", "AVX2", "AVX512"]
    current = torch.backends.cpu.get_cpu_capability()
    if current not in order or order.index(current) < order.index(capability.upper()):
        pytest.skip(f"this processor has {current}, not {capability}")
    switch = "import torch; switched = torch.backends.cpu.get_cpu_capability()"
    environment = {"ATEN_CPU_CAPABILITY": capability}
    assert run_switched("torch", switch, environment) == [capability.upper()]


def test_oracle_digest_does_not_depend_on_the_instruction_set() -> None:
    """Three seeds and the probe are golden with all optional instructions of NumPy disabled."""
    find = (
        "import importlib, numpy\n"
        "core = 'numpy._core' if numpy.__version__ >= '2' else 'numpy.core'\n"
        "umath = importlib.import_module(core + '._multiarray_umath')\n"
        "on = [one for one in umath.__cpu_dispatch__ if umath.__cpu_features__[one]]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", find + "print(*on)"], capture_output=True, text=True, check=True
    )
    features = done.stdout.strip()
    if not features:
        pytest.skip("this NumPy has nothing to leave out on this processor")
    environment = {"NPY_DISABLE_CPU_FEATURES": features}
    assert run_switched("numpy", find + "switched = len(on)", environment) == ["0"]


@pytest.mark.parametrize("features", ["", "+sse4.2,-avx"])
def test_numba_digest_does_not_depend_on_the_instruction_set(features: str) -> None:
    """Three seeds and the probe are golden when compiled for the simplest processor."""
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}
    switch = "import numba; switched = numba.config.CPU_NAME"
    assert run_switched("numba", switch, environment) == ["generic"]
