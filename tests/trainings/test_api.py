"""`xorbench.check` from Python: commands, results and rejected arguments."""

import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import xorbench
from xorbench.api.check import CheckOptions, CheckResult
from xorbench.errors import BadOption

TRAINING = """
def train(seed=0, wait_s=0):
    import time, torch
    if seed is not None:
        torch.manual_seed(seed)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        time.sleep(wait_s)
        loss = model(torch.ones(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

def without_a_seed():
    train(None)

def with_another_seed():
    train(1)

def steadily():
    train(0, 0.1)

def slowly():
    train(0, 0.5)

def with_an_argument(path):
    train()

async def coroutine():
    train()

class Trainer:
    def fit(self=None):
        train()
"""
LIMIT_S = 120.0


def imported(path: Path, name: str) -> ModuleType:
    """Import a module like a test runner: its folder is in no module path."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in the folder `project/suite`, which is in no module path."""
    path = tmp_path / "project" / "suite" / "mine_to_train.py"
    path.parent.mkdir(parents=True)
    path.write_text(TRAINING)
    monkeypatch.setitem(sys.modules, "mine_to_train", ModuleType("mine_to_train"))
    return imported(path, "mine_to_train")


def checked(tmp_path: Path, command: Any, **options: Any) -> CheckResult:
    """The result of a check in the folder `project`; the records are outside it."""
    (tmp_path / "project").mkdir(exist_ok=True)
    settings = {"folder": tmp_path / "project", "out": tmp_path / "out", "timeout": LIMIT_S}
    return xorbench.check(command, **{**settings, **options})


def test_a_function_is_found_below_the_working_folder(module: ModuleType, tmp_path: Path) -> None:
    """A fresh interpreter imports it from the copy, although it is in no module path."""
    lines: list[str] = []
    result = checked(tmp_path, module.train, note=lines.append)
    assert result
    assert (result.outcome, result.exit_code, result.first_divergence) == ("pass", 0, None)
    assert "5 steps" in result.sentence
    assert result.report.is_file()
    assert result.report.is_relative_to(tmp_path / "out" / "checks")
    assert lines[0].startswith("runs twice")
    assert sorted(path.name for path in (tmp_path / "project").iterdir()) == ["suite"]


def test_the_result_of_a_difference_is_false(module: ModuleType, tmp_path: Path) -> None:
    """It has step and component and raises nothing, also in a thread."""
    results: list[CheckResult] = []
    thread = threading.Thread(
        target=lambda: results.append(checked(tmp_path, module.without_a_seed, steps=1))
    )
    thread.start()
    thread.join(LIMIT_S)
    (result,) = results
    assert not result
    assert (result.outcome, result.exit_code) == ("fail", 1)
    assert result.first_divergence is not None
    assert (result.first_divergence.step, result.first_divergence.component) == (0, "parameters")
    assert "elements" in result.first_divergence.details
    assert str(result).startswith("Not identical: run 2 first differs from run 1 in step 0")
    assert str(result).count(result.hint) == 1


def test_an_inconclusive_result_is_false_and_names_arguments_not_options(tmp_path: Path) -> None:
    """The hint names the Python argument."""
    result = checked(tmp_path, [sys.executable, "-c", "import time; time.sleep(99)"], timeout=1)
    assert not result
    assert (result.outcome, result.exit_code) == ("inconclusive", 3)
    assert result.hint == "allow more time with timeout"


@pytest.mark.usefixtures("module")
def test_a_function_is_found_by_its_name(tmp_path: Path) -> None:
    """It is imported in the working folder, not in this process."""
    result = checked(tmp_path, "suite.mine_to_train:train", steps=1)
    assert result.sentence == "bitwise identical in 2 runs: 1 step"


@pytest.mark.parametrize("argument", ["command", "against"])
def test_an_unknown_function_name_is_bad_input(argument: str, tmp_path: Path) -> None:
    """It is not reported as a failed training."""
    command, options = "no_such:train", {}
    if argument == "against":
        command, options = "python -c pass", {"against": command, "processes": 2}
    with pytest.raises(BadOption, match=r"no_such:train: there is no module 'no_such'"):
        checked(tmp_path, command, **options)
    assert list(tmp_path.glob("out/checks/*")) == []


def test_two_functions_are_compared(module: ModuleType, tmp_path: Path) -> None:
    """Their trainings differ; the speed is not compared."""
    options = {"bits_only": True, "processes": 2, "steps": 1}
    result = checked(tmp_path, module.train, against=module.with_another_seed, **options)
    assert not result
    assert result.first_divergence is not None
    assert (result.first_divergence.step, result.first_divergence.component) == (0, "parameters")
    assert result.speed is None


@pytest.mark.variant
def test_the_speeds_of_two_functions_are_compared(module: ModuleType, tmp_path: Path) -> None:
    """The ratio of step times has an interval; a training that sleeps is slower."""
    options = {"speed_only": True, "processes": 2, "skip": 1, "threshold": "60%"}
    result = checked(tmp_path, module.slowly, against=module.steadily, **options)
    assert (result.outcome, result.first_divergence) == ("fail", None)
    assert result.speed is not None
    assert 1.6 < result.speed.low <= result.speed.ratio <= result.speed.high


def test_commands_of_this_environment_come_first(tmp_path: Path) -> None:
    """`python` is this interpreter, independent of PATH."""
    script = f"import sys; sys.exit(sys.prefix != {sys.prefix!r})"
    result = checked(tmp_path, ["python", "-c", script])
    assert result.sentence == "no training step was recorded: no process imported PyTorch"


REJECTED: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "no command": ("", {}, "command: empty", "such as"),
    "no words": ([], {}, "command: empty", "such as"),
    "open quote": ("python 'x", {}, "command: no closing quotation: ", ""),
    "unknown": ("no-such-command", {}, "check: there is no command 'no-such-command'", ""),
    "in the folder": ("./here.sh", {}, "check: there is no command './here.sh'", ""),
    "lambda": (lambda: None, {}, "command: '<lambda>' cannot be imported", "at the top level"),
    "processes": ("python", {"processes": 1}, "processes: ", ""),
    "no number": ("python", {"processes": "2"}, "processes: must be a whole number, got '2'", ""),
    "truth": ("python", {"steps": True}, "steps: must be a whole number, got True", ""),
    "steps": ("python", {"steps": 0}, "steps: ", ""),
    "timeout": ("python", {"timeout": 0}, "timeout: must be above zero", ""),
    "size": ("python", {"max_copy": "much"}, "max_copy: must be a size", "500MB"),
    "one text": ("python", {"exclude": "*.pt"}, "exclude: must be a list", "exclude=['*.pt']"),
    "link": ("python", {"link": ["data"]}, "link: there is no 'data'", ""),
    "folder": ("python", {"folder": "no-such"}, "folder: no folder 'no-such'", ""),
    "name": ("python", {"name": "a b"}, "name: invalid name 'a b'", "letters"),
    "reserved name": ("python", {"name": "latest"}, "name: invalid name 'latest'", "letters"),
    "out": ("python", {"out": "/dev/null/x"}, "out: cannot write", ""),
    "kill alone": ("python", {"kill_after": 3}, "kill_after: needs resume", "resume="),
    "resume alone": ("python", {"resume": "python"}, "resume: needs kill_after", "kill_after="),
    "save alone": ("python", {"kill_in_save": True}, "kill_in_save: needs resume", "resume="),
    "no kill": ("python", {"resume": "python", "kill_after": []}, "kill_after: empty", "one"),
    "kill twice": ("python", {"resume": "python", "kill_after": [3, 3]}, "kill_after: 3 is", ""),
    "kill at 0": ("python", {"resume": "python", "kill_after": [0]}, "kill_after: ", ""),
    "no resume": ("python", {"resume": "", "kill_after": 1}, "resume: empty", ""),
    "resumed by": ("python", {"resume": "no-such", "kill_after": 1}, "resume: there is no", ""),
    "in place": (
        *("python", {"resume": "python", "kill_after": 1, "in_place": True}),
        *("resume: cannot be given with in_place", ""),
    ),
    "against resume": (
        *("python", {"resume": "python", "against": "python"}),
        *("against: cannot be given with resume", ""),
    ),
    "only both": (
        *("python", {"against": "python", "bits_only": True, "speed_only": True}),
        *("bits_only: cannot be given with speed_only", ""),
    ),
    "only alone": ("python", {"speed_only": True}, "speed_only: needs against", ""),
    "no against": ("python", {"against": ""}, "against: empty", "such as"),
    "unknown against": ("python", {"against": "no-such"}, "against: there is no command", ""),
    "threshold": ("python", {"against": "python", "threshold": 5}, "threshold: must be", "5%"),
    "both": (
        *("python", {"resume": "python", "kill_after": 1, "processes": 2}),
        *("resume: cannot be given with processes", ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED)
def test_invalid_arguments_are_rejected_before_anything_runs(case: str, tmp_path: Path) -> None:
    """One line that begins with the argument, and a hint; nothing is written."""
    command, options, message, hint = REJECTED[case]
    with pytest.raises(BadOption) as caught:
        checked(tmp_path, command, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value) + caught.value.hint
    assert hint in caught.value.hint
    assert getattr(caught.value, "__notes__", []) == (
        [f"hint: {caught.value.hint}"] if caught.value.hint else []
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda m: m.with_an_argument, "'with_an_argument' needs the argument 'path'"),
        (lambda m: m.coroutine, "'coroutine' is a coroutine function"),
        (lambda m: m.Trainer().fit, "'Trainer.fit' cannot be imported"),
    ],
    ids=["argument", "coroutine", "method"],
)
def test_functions_that_cannot_be_called_are_rejected(
    choose: Callable[[ModuleType], Any], message: str, module: ModuleType, tmp_path: Path
) -> None:
    """Before anything runs."""
    with pytest.raises(BadOption) as caught:
        checked(tmp_path, choose(module))
    assert str(caught.value).startswith(f"command: {message}")


def test_a_replaced_function_is_rejected(module: ModuleType, tmp_path: Path) -> None:
    """The fresh interpreter would call the replacement."""
    before, module.train = module.train, module.without_a_seed
    with pytest.raises(BadOption, match="cannot be imported"):
        checked(tmp_path, before)


def test_the_plugin_has_types_for_all_arguments() -> None:
    """`CheckOptions` has every keyword argument of `check`."""
    parameters = inspect.signature(xorbench.check).parameters
    assert set(CheckOptions.__annotations__) == {*parameters} - {"command"}


def test_an_unknown_name_of_the_package_is_an_error() -> None:
    """Lazy imports raise `AttributeError` for a misspelt name."""
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        getattr(xorbench, "chekc")  # noqa: B009
