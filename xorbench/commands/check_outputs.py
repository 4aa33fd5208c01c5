"""What `check` writes and prints, and whatever reports as it does."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from xorbench.commands.check import CheckOutcome
from xorbench.commands.ci_outputs import Exports
from xorbench.observe.ended import Ended
from xorbench.observe.files import write_whole
from xorbench.observe.sharing import Sharing, sharing_here
from xorbench.report import check as report
from xorbench.report import page
from xorbench.report.check import CheckReport


@dataclass(frozen=True, slots=True)
class Shown:
    """What the terminal shows, where the report is, and why a file could not be written."""

    text: str
    report: Path
    warning: str


def write(
    outcome: CheckOutcome, exports: Exports, *, as_json: bool, anonymous: bool = False
) -> Shown:
    """Write the report into the folder of the check, and what a CI asked for."""
    checked = CheckReport(
        id=outcome.id,
        command=outcome.command,
        folder=str(outcome.folder),
        runs=_rows(outcome),
        conclusion=outcome.conclusion,
        verdicts=outcome.verdicts,
        answers=() if outcome.against is None else outcome.against.answers(),
        machine=outcome.machine,
        again=[f"xorbench check --from {outcome.folder}"],
    )
    sharing = sharing_here(anonymous=anonymous or outcome.anonymous)
    return publish(checked, _result(outcome), exports, sharing, as_json=as_json)


def publish(
    checked: CheckReport,
    result: dict[str, object],
    exports: Exports,
    sharing: Sharing,
    *,
    as_json: bool,
) -> Shown:
    """Write result.json, report.md and report.html into its folder, and what a CI asked for.

    All of these are for sharing. A terminal shows paths in full, unless the check is anonymous.
    """
    folder, plain = Path(checked.folder), checked
    checked = report.changed(checked, sharing)
    content, markdown = report.content(checked), report.markdown(checked)
    verdicts_too = {**sharing.value(result), "verdicts": msgspec.to_builtins(checked.verdicts)}
    text = msgspec.json.format(msgspec.json.encode(verdicts_too), indent=2).decode()
    write_whole(folder / "result.json", text.encode())
    write_whole(folder / "report.md", markdown.encode())
    write_whole(folder / "report.html", page.html(content, {}).encode())
    warning = exports.write(checked.verdicts, checked.id, lambda: markdown, lambda: markdown)
    answer = (checked if sharing.anonymous else plain).conclusion
    shown = text if as_json else report.conclusion_text(answer)
    return Shown(shown, folder / "report.html", warning)


def _result(outcome: CheckOutcome) -> dict[str, object]:
    """The result for programs."""
    return {
        "check": outcome.id,
        "command": outcome.command,
        **report.for_programs(outcome.conclusion, outcome.exit_code),
        **_against(outcome),
        "runs": _rows(outcome),
    }


def _against(outcome: CheckOutcome) -> dict[str, object]:
    """Both answers of a check against another command."""
    if outcome.against is None:
        return {}
    bits, speed = outcome.against.bits, outcome.against.speed
    return {
        "bits": None if bits is None else {"outcome": bits.outcome, "sentence": bits.sentence},
        "speed": None
        if speed is None
        else {"outcome": speed.outcome, "sentence": speed.sentence, **speed.for_programs()},
    }


def _rows(outcome: CheckOutcome) -> list[dict[str, object]]:
    rows = [run_row(one) for one in outcome.runs]
    if outcome.against is not None:  # of two commands, each of which has a run 1
        names = [{"run": one.folder.name} for one in outcome.runs]
        rows = [{**row, **name} for row, name in zip(rows, names, strict=True)]
    return rows


def run_row(one: Ended) -> dict[str, object]:
    """A run and how it ended."""
    return {
        "run": one.number,
        "ended": one.how,
        "exit code": one.code,
        "wall time (s)": round(one.wall_s, 2),
    }
