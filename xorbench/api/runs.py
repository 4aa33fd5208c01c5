"""`xorbench.run`, `load_run` and `compare`: runs of the XOR training from Python.

result = xorbench.run(quick=True, devices="cpu")
assert result, result.text
result.table("throughput")
xorbench.compare("before", "after").slower
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from xorbench.errors import BadOption
from xorbench.options import parse
from xorbench.options.option_text import flag
from xorbench.records import folders
from xorbench.report import document
from xorbench.report.results import PythonResult
from xorbench.report.run_files import RunOutcome
from xorbench.stats.thresholds import MACHINE_THRESHOLD, THRESHOLD
from xorbench.verdicts import Verdict
from xorbench.xor.compare import compare as comparing
from xorbench.xor.matrix.axes import AXES
from xorbench.xor.matrix.process_count import read_processes
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS, read_recipe
from xorbench.xor.report import compare as comparison_report
from xorbench.xor.run import run as running

if TYPE_CHECKING:
    import pandas as pd

SettingValue: TypeAlias = bool | int | float | str | None
SettingValues: TypeAlias = SettingValue | Sequence[SettingValue]
TIMEOUT_S: Final = 120.0
SETTINGS: Final = {axis.option[2:].replace("-", "_"): axis for axis in AXES}
FIELDS: Final = {row.field for row in RECIPE_OPTIONS}


@dataclass(frozen=True, slots=True, repr=False)
class RunResult(PythonResult):
    """The result of a run. It is true if the run passed; `str` is the output of the command.

    `repr` is the last lines of the output; a notebook shows them as a list.

    Attributes:
        id: the id of the run.
        folder: the folder of the run.
        exit_code: the exit code of `xorbench run`: 0, 1, 3 or 4.
        answers: the answer to each of the three questions, by question.
        verdicts: the verdict of each check on each subject.
        text: tables, failures, answers and verdict, as lines.
    """

    id: str
    folder: Path
    exit_code: int
    answers: dict[str, str]
    verdicts: Sequence[Verdict]
    text: str
    _frames: dict[str, "pd.DataFrame"]
    _conclusion: tuple[str, ...] = ()

    def _brief(self) -> tuple[str, list[str]]:
        return self.id, [*self._conclusion, f"tables: {', '.join(self.tables)}"]

    @property
    def tables(self) -> list[str]:
        """The names of its tables, such as `throughput`."""
        return list(self._frames)

    def table(self, name: str) -> "pd.DataFrame":
        """A table with unrounded values; column names contain the units.

        Raises `BadOption` for a name that is not in `tables`.
        """
        return self._frames[parse.word("table", name, tuple(self._frames))].copy()


@dataclass(frozen=True, slots=True, repr=False)
class ComparisonResult(PythonResult):
    """The comparison of B with A. It is true if nothing is slower and no case is missing.

    Attributes:
        exit_code: the exit code of `xorbench compare`: 0, 1 or 3.
        ratios: time of B ÷ time of A, by case: the estimate and the ends of its 95% interval, which
            are None with a single process.
        slower: the cases with the verdict *slower*.
        text: the output of the command.
    """

    exit_code: int
    ratios: dict[str, tuple[float, float | None, float | None]]
    slower: list[str]
    text: str
    _conclusion: tuple[str, ...] = ()

    def _brief(self) -> tuple[str, tuple[str, ...]]:
        return "", self._conclusion


def run(
    *,
    quick: bool = False,
    processes: int | None = None,
    precision: float | None = None,
    name: str | None = None,
    out: str | os.PathLike[str] = "results",
    timeout: float = TIMEOUT_S,
    baseline: str | None = None,
    **settings: SettingValues,
) -> RunResult:
    """Train the matrix, check it and write the report, as `xorbench run` does.

    Args:
        quick: train only batch size 128: two cases.
        processes: fresh processes for each case, 2 by default.
        precision: a share such as 0.02: add processes until all 95% intervals of speed are this
            narrow, up to `processes`, by default 10.
        name: the name used in the result folder.
        out: the folder of all runs, as `--out` of the command.
        timeout: the time limit of one answer (s).
        baseline: a saved baseline; fail if the run is slower.
        settings: options of the command by their names with `_`: settings such as `devices`,
            `batch_sizes`, `seeds`, with one or more values each; recipe fields such as `epochs`.

    Raises:
        BadOption: unknown setting or invalid value; nothing is written.
    """
    texts = {option: _text(values) for option, values in settings.items()}
    for option in texts:
        parse.word("run", option, (*SETTINGS, *sorted(FIELDS)))
    options = {"processes": processes, "precision": precision, "baseline": baseline}
    given = {option: str(value) for option, value in options.items() if value is not None}
    count = read_processes(given.get("processes"), given.get("precision"), dashes="")
    request = running.RunRequest(
        recipe=read_recipe({option: texts[option] for option in texts if option in FIELDS}),
        axes={
            axis.name: axis.read(axis.option, texts[option])
            for option, axis in SETTINGS.items()
            if option in texts
        },
        command=_command(quick, {**given, **texts}),
        root=Path(out),
        name=name,
        baseline=baseline,
        quick=quick,
        processes_per_config=count.first,
        most_processes=count.most,
        precision=count.precision,
        phases=True,
        timeout_s=parse.positive("timeout", str(timeout), 1e6),
    )
    return _result(running.run(request))


def load_run(run: str = "latest", out: str | os.PathLike[str] = "results") -> RunResult:
    """Judge a finished run from its files.

    `run` is a path, an id, a unique prefix, a name, or `latest`. Raises `BadOption` if there is no
    such run, `BadFile` if a file is damaged.
    """
    return _result(running.judged(folders.find(Path(out), os.fspath(run), kind="run")))


def compare(
    a: str,
    b: str = "latest",
    *,
    out: str | os.PathLike[str] = "results",
    threshold: float = THRESHOLD,
    machine_threshold: float = MACHINE_THRESHOLD,
) -> ComparisonResult:
    """Compare the speed of run B, and of its machine, with run A, as `xorbench compare` does.

    `threshold` is a share, 0.05 for 5%; `machine_threshold` is a ratio of raw times. Raises
    `BadOption` if a run does not exist or both are the same run.
    """
    comparison = comparing.compare(Path(out), a, b, None, (threshold, machine_threshold))
    return ComparisonResult(
        exit_code=comparing.exit_code(comparison),
        ratios={row.subject: (row.ratio, row.low, row.high) for row in comparison.variants},
        slower=[row.subject for row in comparison.variants if row.verdict == "slower"],
        text=comparison_report.as_text(comparison),
        _conclusion=tuple(comparison_report.conclusion(comparison)),
    )


def _text(values: SettingValues) -> str:
    """One or more values as typed in a shell."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        if not values:
            raise BadOption("run: an empty list of values", "omit the setting")
        return ",".join(map(_text, values))
    if isinstance(values, bool):  # a bool is also a number
        return str(values).lower()
    return "auto" if values is None else str(values)


def _command(quick: bool, texts: dict[str, str]) -> str:
    """The equivalent command line."""
    words = ["python", "-m", "xorbench", "run", *(["--quick"] if quick else [])]
    for option, text in texts.items():
        words += [flag(option), text]
    return shlex.join(words)


def _result(outcome: RunOutcome) -> RunResult:
    content = outcome.content
    assert outcome.folder is not None
    frames = {section.name: section.data for section in content.sections}
    return RunResult(
        id=content.id,
        folder=outcome.folder,
        exit_code=outcome.exit_code,
        answers={row.question: f"{row.word}. {row.sentence}" for row in content.answers},
        verdicts=content.verdicts,
        text=document.terminal(content, outcome.exit_code, verbose=True),
        _frames=frames,
        _conclusion=tuple(document.conclusion(content, outcome.exit_code)),
    )
