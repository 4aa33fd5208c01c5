"""The pytest plugin: a fixture `xorbench`, whose `check` fails a test that is not reproducible.

It is loaded by every pytest of the environment, so it imports nothing until the fixture is used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Unpack

    from xorbench.api.check import CheckOptions, CheckResult, Trainable


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the records go."""
    group = parser.getgroup("xorbench")
    group.addoption(
        "--xorbench-out",
        metavar="DIR",
        help="keep records and reports of checks in DIR/checks (default: the temporary folder)",
    )


class XorbenchFixture:
    """What the fixture `xorbench` gives to a test."""

    def __init__(self, folder: Path, factory: pytest.TempPathFactory, out: Path | None) -> None:
        self._folder = folder
        self._factory = factory
        self._out = out

    def check(
        self,
        command: Trainable,
        *,
        allow_inconclusive: bool = False,
        **options: Unpack[CheckOptions],
    ) -> CheckResult:
        """Check a training as `xorbench.check` does; fail the test where it is not the same.

        Args:
            command: a command, or a function at the top of a module.
            allow_inconclusive: return a result that says neither yes nor no; else it fails too.
            **options: the arguments of `xorbench.check`. `folder` is by default the rootdir of
                pytest, `out` the temporary folder of pytest or what `--xorbench-out` names.

        Returns:
            What was found.

        Raises:
            BadOption: an argument cannot be used.
        """
        __tracebackhide__ = True
        from xorbench.api.check import check
        from xorbench.errors import XorbenchError

        options.setdefault("folder", self._folder)
        options.setdefault("out", self._out or self._factory.mktemp("xorbench"))
        options.setdefault("note", _note)
        try:
            result = check(command, **options)
        except XorbenchError as error:
            raise error.with_traceback(None)  # noqa: B904
        is_open = result.outcome == "inconclusive"
        if result or (is_open and allow_inconclusive):
            return result
        hint = "\n  inconclusive: with allow_inconclusive=True it does not fail" if is_open else ""
        pytest.fail(f"{result}{hint}\n  report: {result.report}")


def _note(line: str) -> None:
    """Progress: pytest shows it beside a test that fails."""
    sys.stderr.write(f"xorbench: {line}\n")


@pytest.fixture
def xorbench(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> XorbenchFixture:
    """Checks of trainings: `xorbench.check("python train.py")` fails where two runs differ."""
    out = pytestconfig.getoption("xorbench_out")
    folder = pytestconfig.invocation_params.dir / out if out else None
    return XorbenchFixture(pytestconfig.rootpath, tmp_path_factory, folder)
