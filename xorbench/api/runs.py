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
    """The result of a run. It is true where it passed; `str` is what the command prints.

    `repr` is the last lines of that; a notebook shows them as a list.

    Attributes:
        id: of the run; its folder is `folder`.
        exit_code: what `xorbench run` would exit with: 0, 1, 3 or 4.
        answers: the sentence of each of the three questions, by the question.
        verdicts: what each check says of each subject.
        text: tables, failures, answers, verdict, in lines.
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
        """One of its tables, with every digit; units are in the names of the columns.

        Raises `BadOption` for a name that is not in `tables`.
        """
        return self._frames[parse.word("table", name, tuple(self._frames))].copy()


@dataclass(frozen=True, slots=True, repr=False)
class ComparisonResult(PythonResult):
    """What comparing B with A came to. It is true where nothing is slower and no case lost.

    Attributes:
        exit_code: what `xorbench compare` would exit with: 0, 1 or 3.
        ratios: B's time ÷ A's by case: the estimate, and the ends of its 95% interval, which are
            None where one process allows none.
        slower: the cases that are slower, beyond the threshold and the interval.
        text: what the command prints.
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
    """Train the matrix, check it, write the report; the same as `xorbench run`.

    Args:
        quick: batch size 128 only: two cases.
        processes: fresh processes for each case, 2 by default.
        precision: a share such as 0.02: processes are added until all 95% intervals of speed
            reach no further, up to `processes`, by default 10.
        name: a name to find the run by.
        out: where runs lie, as `--out` of the command.
        timeout: seconds to wait for one answer.
        baseline: a saved baseline that it must not be slower than.
        settings: options of the command by their names with `_`: settings such as `devices`,
            `batch_sizes`, `seeds`, each a value or several, and fields of the recipe such as
            `epochs`.

    Raises:
        BadOption: a setting that there is not, or a value that cannot be; nothing is written.
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
    """A run that is there, judged from its files alone.

    `run` is a path, an id, the unique beginning of one, a name, or `latest`. Raises `BadOption`
    where it is none, `BadFile` where a file is damaged.
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
    """Is run B slower than run A, or the machine than it was? The same as `xorbench compare`.

    `threshold` is a share, 0.05 for 5%; `machine_threshold` a ratio of raw times. Raises
    `BadOption` for what is no run, or one run twice.
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
    """A value, or several, as one would type them."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        if not values:
            raise BadOption("run: an empty list of values", "leave the setting out")
        return ",".join(map(_text, values))
    if isinstance(values, bool):  # before the numbers, of which it is one
        return str(values).lower()
    return "auto" if values is None else str(values)


def _command(quick: bool, texts: dict[str, str]) -> str:
    """The command line that does the same."""
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
