"""The judged files of a run or a sweep: verdicts, tables, reports."""

from dataclasses import dataclass
from pathlib import Path

from xorbench.records.store import RunStore
from xorbench.report import document, page
from xorbench.report.content import Content, drawn_by_name
from xorbench.report.text import to_csv


@dataclass(frozen=True, slots=True, eq=False)
class RunOutcome:
    """The folder of a run or a sweep, its report, and the exit code.

    A comparison of several runs has no folder.
    """

    folder: Path | None
    content: Content
    exit_code: int


def write_reports(store: RunStore, content: Content) -> None:
    """Write every file that is derived from the observations."""
    store.write_json("verdicts.json", content.verdicts)
    for section in content.sections:
        if section.csv is not None:
            store.write_text(f"{section.name}.csv", to_csv(section.csv))
    store.write_text("report.md", document.markdown(content))
    drawn = drawn_by_name(content)
    for name, picture in drawn.items():
        if picture.svg:
            store.write_text(f"plots/{name}.svg", picture.svg)
    store.write_text("report.html", page.html(content, drawn))
