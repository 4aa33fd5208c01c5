"""What `check` writes and prints."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from xorbench.commands.check import CheckOutcome
from xorbench.measure.command_run import Ended
from xorbench.observe.files import write_whole
from xorbench.report import check as report
from xorbench.report import page
from xorbench.report.check import CheckReport
from xorbench.report.content import Content


@dataclass(frozen=True, slots=True)
class Shown:
    """What the terminal shows, where the report is, and why a file could not be written."""

    text: str
    report: Path
    warning: str


def write(outcome: CheckOutcome, exports: Any, *, as_json: bool) -> Shown:
    """Write the report into the folder of the check, and what a CI asked for."""
    checked = CheckReport(
        id=outcome.id,
        command=outcome.command,
        folder=str(outcome.folder),
        runs=_rows(outcome),
        observed=outcome.observed,
        conclusion=outcome.conclusion,
        machine=outcome.machine,
        again=[f"xorbench check --from {outcome.folder}"],
        against=outcome.against,
    )
    content = report.content(checked)
    text = program_text(outcome, content)
    write_whole(outcome.folder / "result.json", text.encode())
    write_whole(outcome.folder / "report.md", report.markdown(checked).encode())
    write_whole(outcome.folder / "report.html", page.html(content, {}).encode())
    warning = exports.write(
        content.verdicts,
        outcome.id,
        lambda: report.markdown(checked),
        lambda: report.markdown(checked),
    )
    shown = text if as_json else report.conclusion_text(outcome.conclusion)
    return Shown(shown, outcome.folder / "report.html", warning)


def program_text(outcome: CheckOutcome, content: Content) -> str:
    """The result for programs."""
    conclusion = outcome.conclusion
    diverged = outcome.observed.diverged
    first = diverged.compared.first if diverged else None
    result = {
        "schema_version": report.SCHEMA_VERSION,
        "check": outcome.id,
        "command": outcome.command,
        "exit_code": outcome.exit_code,
        "outcome": conclusion.outcome,
        "sentence": conclusion.sentence,
        "component": conclusion.component or None,
        "step": None if first is None else first.step,
        "meaning": conclusion.meaning,
        "hint": conclusion.hint,
        "facts": dict(conclusion.facts),
        "notes": conclusion.notes,
        **_against(outcome),
        "runs": _rows(outcome),
        "verdicts": msgspec.to_builtins(content.verdicts),
    }
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode()


def _against(outcome: CheckOutcome) -> dict[str, object]:
    """Both answers of a check against another command."""
    if outcome.against is None:
        return {}
    bits, speed = outcome.against.bits, outcome.against.speed
    return {
        "bits": None if bits is None else {"outcome": bits.outcome, "sentence": bits.sentence},
        "speed": None
        if speed is None
        else {"outcome": speed.outcome, "sentence": speed.sentence, **asdict(speed)},
    }


def _rows(outcome: CheckOutcome) -> list[dict[str, object]]:
    rows = [_row(one) for one in outcome.runs]
    if outcome.against is not None:  # of two commands, each of which has a run 1
        names = [{"run": one.folder.name} for one in outcome.runs]
        rows = [{**row, **name} for row, name in zip(rows, names, strict=True)]
    return rows


def _row(one: Ended) -> dict[str, object]:
    return {
        "run": one.number,
        "ended": one.how,
        "exit code": one.code,
        "wall time (s)": round(one.wall_s, 2),
    }
