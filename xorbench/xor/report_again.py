"""`report`: rebuild the reports of a run or a sweep, or put runs side by side, from files.

Modules that only some folders need are imported on demand.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from xorbench.errors import PASSED, BadFile, BadOption
from xorbench.records import folders, loading
from xorbench.records.schema.run import RunInfo
from xorbench.records.store import RunStore
from xorbench.report.run_files import RunOutcome, write_reports
from xorbench.verdicts import exit_code
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge

JUDGES: Final = {
    "benchmark": "xorbench.xor.report.pytest_benchmark",
    "run": "xorbench.xor.run.run",
    "sweep": "xorbench.machine.sweep.sweep",
}
"""The module that judges a folder, by its kind."""


def sides(root: Path, texts: Sequence[str]) -> RunOutcome:
    """Several runs side by side, each judged again; raises `BadOption` for anything but a run."""
    from xorbench.xor.compare.compare import local_variance
    from xorbench.xor.report import sides as sides_report

    runs = []
    for text in texts:
        folder = folders.find(root, text)
        info = loading.read_any(folder)
        if info.kind != "run":
            raise BadOption(f"RUN: {text!r} is a {info.kind}: only runs can be put side by side")
        evidence = Evidence(loading.load(folder, info))
        runs.append(sides_report.RunSide(evidence, judge(evidence)))
    if len({side.run.info.id for side in runs}) < len(runs):
        raise BadOption("RUN: the same run twice", "name different ones")
    content = sides_report.content(runs, local_variance(root))
    return RunOutcome(None, content, exit_code(content.verdicts))


def history(root: Path) -> tuple[RunOutcome, list[str]]:
    """Each case over all finished runs, and one text per unreadable folder."""
    from xorbench.xor.compare.compare import local_variance
    from xorbench.xor.report import history as history_report

    runs, troubles = [], []
    for folder in sorted((root / "runs").glob("*/")):
        if folders.is_copy(folder):
            continue
        try:
            value = loading.read_object(folder)
            if value.get("kind", "run") != "run":
                continue
            info = loading.info_of(folder, value, RunInfo)
            if info.finished:
                runs.append(loading.load(folder, info))
        except BadFile as error:
            troubles.append(f"skipped: {error.message}")
    if not runs:
        hint = "create one with python -m xorbench run"
        raise BadOption(f"--history: no finished run in {root}", hint)
    return RunOutcome(None, history_report.content(runs, local_variance(root)), PASSED), troubles


def report(root: Path, text: str) -> tuple[RunOutcome, str]:
    """Judge a run again and rewrite its reports; the text is why they cannot be written."""
    folder = folders.find(root, text)
    info = loading.read_any(folder)
    judge_of = import_module(JUDGES[info.kind])
    outcome: RunOutcome = judge_of.judged(folder, info)
    trouble = ""
    try:
        write_reports(
            RunStore(folder, anonymous=outcome.content.anonymous, lock=False), outcome.content
        )
    except BadFile as error:
        trouble = error.message
    return outcome, trouble
