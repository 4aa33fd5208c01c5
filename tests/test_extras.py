"""Libraries that only some commands need are in extras, which these commands name."""

import re
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from conftest import call_in
from environments import PROJECT

from xorbench import extras
from xorbench.cli import env
from xorbench.errors import BadOption

DISTRIBUTIONS = {"prometheus_client": "prometheus-client"}  # whose name is not that of the module


def names(requirements: list[str]) -> set[str]:
    """The names of requirements, those of the extras in them included."""
    installed: set[str] = set()
    for text in requirements:
        if extra := re.fullmatch(r"xorbench\[(\w+)\]", text):
            installed |= names(PROJECT["optional-dependencies"][extra[1]])
        else:
            installed.add(re.split(r"[^\w-]", text)[0])
    return installed


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_extra_installs_the_modules_that_it_is_named_for(extra: str) -> None:
    """And none of them is a core dependency."""
    installed = names(PROJECT["optional-dependencies"][extra])
    needed = {DISTRIBUTIONS.get(module, module) for module in extras.EXTRAS[extra]}
    assert needed <= installed
    assert not needed & names(PROJECT["dependencies"])


def test_each_extra_includes_the_smaller_ones() -> None:
    """`speed` in `run`, `run` in `all`."""
    speed, run, everything = (names(PROJECT["optional-dependencies"][e]) for e in extras.EXTRAS)
    assert speed < run < everything


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any library of an extra."""

    def find(name: str) -> ModuleSpec | None:
        return None if name in extras.LIBRARIES else ModuleSpec(name, None)

    monkeypatch.setattr(extras, "find_spec", find)
    return monkeypatch


@pytest.mark.parametrize(
    ("command", "extra", "library"),
    [
        ("run", "run", "SciPy"),
        ("run --dry-run", "run", "SciPy"),
        ("report", "run", "SciPy"),
        ("compare a b", "run", "SciPy"),
        ("selftest", "run", "SciPy"),
        ("canary", "all", "PyTorch"),
        ("sweep", "all", "SciPy"),
        ("fleet", "all", "SciPy"),
    ],
)
@pytest.mark.usefixtures("without")
def test_a_command_names_the_extra_that_it_lacks(
    tmp_path: Path, command: str, extra: str, library: str
) -> None:
    """In one line, exit code 2, nothing written."""
    done = call_in(tmp_path, *command.split())
    line = f'{command.partition(" ")[0]} needs {library}: pip install "xorbench[{extra}]"'
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"xorbench: {line}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "library"), [(["--burn-in", "1"], "SciPy"), (["--prometheus", "x"], "prometheus")]
)
def test_an_option_names_the_library_that_only_it_needs(
    without: pytest.MonkeyPatch, tmp_path: Path, options: list[str], library: str
) -> None:
    """`canary` needs neither without it."""
    present = {"torch", "numba"}
    without.setattr(
        extras, "find_spec", lambda name: ModuleSpec(name, None) if name in present else None
    )
    done = call_in(tmp_path, "canary", *options)
    assert done.returncode == 2
    assert f"canary {options[0]} needs {library}" in done.stderr


def test_what_is_installed_is_not_refused() -> None:
    """Here every extra is installed."""
    for extra in extras.EXTRAS:
        extras.require("this", extra)


@pytest.mark.usefixtures("without")
def test_python_gets_the_same_message() -> None:
    """From `xorbench.run`, `load_run` and `compare`."""
    import xorbench

    with pytest.raises(
        BadOption, match=r'xorbench\.run needs SciPy: pip install "xorbench\[run\]"'
    ):
        _ = xorbench.run


def test_a_library_that_is_missed_later_is_named_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where a command has not looked for it, the import fails in one line."""

    def fail(**_options: object) -> int:
        raise ModuleNotFoundError("No module named 'scipy.special'", name="scipy.special")

    monkeypatch.setattr(env.env, "callback", fail)
    done = call_in(tmp_path, "env")
    line = 'xorbench: env needs SciPy: pip install "xorbench[all]"\n'
    assert (done.returncode, done.stderr) == (2, line)
