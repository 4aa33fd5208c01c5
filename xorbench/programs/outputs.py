"""The report of an experiment: its files and its terminal output."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from xorbench.programs import report
from xorbench.programs.experiment import ExperimentOutcome
from xorbench.programs.report import CheckReport
from xorbench.records.files import write_whole
from xorbench.records.redaction import local_sharing
from xorbench.report import page
from xorbench.report.ci_outputs import Exports
from xorbench.report.content import Section
from xorbench.report.text import frame_of

KINDS: Final = {"check": "check", "explain": "explanation"}  # in result.json, by the command


@dataclass(frozen=True, slots=True)
class Shown:
    """The terminal output, the path of the report, and a warning if a file was not written."""

    text: str
    report: Path
    warning: str


def write(
    outcome: ExperimentOutcome,
    exports: Exports,
    *,
    as_json: bool,
    anonymous: bool = False,
    again: str = "",
) -> Shown:
    """Write result.json, report.md and report.html into the folder, and the CI output files.

    The files are safe to share; the terminal shows full paths unless `anonymous`. `again` is the
    command that repeats the experiment; by default it judges a check again.
    """
    folder, judgement = outcome.folder, outcome.judgement
    sharing = local_sharing(anonymous=anonymous or outcome.anonymous)
    plain = CheckReport(
        id=folder.name,
        command=outcome.command,
        folder=str(folder),
        runs=judgement.rows,
        conclusion=judgement.conclusion,
        verdicts=judgement.verdicts,
        answers=judgement.answers,
        machine=outcome.machine,
        again=[again or f"xorbench check --from {folder}"],
        sections=[
            Section(name, title, frame_of(list(rows)), terminal=True)
            for name, title, rows in judgement.tables
        ],
        pictures=judgement.pictures,
    )
    shared = report.changed(plain, sharing)
    content, markdown = report.content(shared), report.markdown(shared)
    result = {
        KINDS[outcome.name]: folder.name,
        "command": outcome.command,
        **report.for_programs(outcome.conclusion, outcome.exit_code),
        **judgement.details,
    }
    verdicts = msgspec.to_builtins(shared.verdicts)
    result = {**sharing.value(result), "verdicts": verdicts}
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    write_whole(folder / "result.json", text.encode())
    write_whole(folder / "report.md", markdown.encode())
    write_whole(folder / "report.html", page.html(content).encode())
    warning = exports.write(shared.verdicts, shared.id, lambda: markdown, lambda: markdown)
    answer = (shared if sharing.anonymous else plain).conclusion
    shown = text if as_json else report.conclusion_text(answer)
    return Shown(shown, folder / "report.html", warning)
