"""The pytest plugin: the fixture `xorbench`, whose `check` fails if a training is not reproducible.

Every pytest in the environment loads it, so it imports nothing until the fixture is used.
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
    """Add the option for the folder of the records."""
    group = parser.getgroup("xorbench")
    group.addoption(
        "--xorbench-out",
        metavar="DIR",
        help="keep records and reports of checks in DIR/checks (default: the temporary folder)",
    )


class XorbenchFixture:
    """The value of the fixture `xorbench`."""

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
        """Check a training as `xorbench.check` does; fail the test if the check does not pass.

        Args:
            command: a command, or a function at the top level of a module.
            allow_inconclusive: do not fail the test if the result is inconclusive.
            **options: the arguments of `xorbench.check`. `folder` defaults to the rootdir of
                pytest, `out` to `--xorbench-out`, else to the temporary folder of pytest.

        Returns:
            The result.

        Raises:
            BadOption: an argument is invalid.
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
        is_inconclusive = result.outcome == "inconclusive"
        if result or (is_inconclusive and allow_inconclusive):
            return result
        hint = "\n  inconclusive: allow_inconclusive=True accepts this" if is_inconclusive else ""
        pytest.fail(f"{result}{hint}\n  report: {result.report}")


def _note(line: str) -> None:
    """Write a line of progress, which pytest shows for failed tests."""
    sys.stderr.write(f"xorbench: {line}\n")


@pytest.fixture
def xorbench(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> XorbenchFixture:
    """Check trainings: `xorbench.check("python train.py")` fails the test if two runs differ."""
    out = pytestconfig.getoption("xorbench_out")
    folder = pytestconfig.invocation_params.dir / out if out else None
    return XorbenchFixture(pytestconfig.rootpath, tmp_path_factory, folder)
