"""The report of the lessons: what was said, whether it holds here, what was measured."""

from collections.abc import Sequence

import pandas as pd

from xorbench.judge.verdicts import Verdict
from xorbench.observe.records.lessons import LessonsInfo
from xorbench.report.content import Content, Section
from xorbench.report.runs import flattened, machine_line, software


def content(info: LessonsInfo, verdicts: Sequence[Verdict]) -> Content:
    """The content of the lessons' report."""
    frame = table(info)
    return Content(
        id=info.id,
        schema_version=info.schema_version,
        anonymous=info.anonymous,
        heading=[
            ("lessons", info.id + (f" ({info.name})" if info.name else "")),
            ("command", info.command),
            ("started", info.started),
            ("finished", info.finished),
            ("machine", machine_line(info.host)),
            ("software", software(info.machine)),
        ],
        sections=[Section("lessons", "Lessons", frame, ABOUT, csv=frame, terminal=True)],
        pictures=[],
        verdicts=verdicts,
        environment=[*flattened("host", info.host), *flattened("", info.machine)],
        again=[info.command],
    )


ABOUT = (
    "What tutorials say of this very network, each statement tried on this machine in this process."
)


def table(info: LessonsInfo) -> pd.DataFrame:
    """A row a lesson."""
    rows = [
        {
            "lesson": finding.lesson,
            "statement": finding.statement,
            "answer": finding.answer,
            "measured": finding.measured,
        }
        for finding in info.findings
    ]
    return pd.DataFrame(rows, columns=["lesson", "statement", "answer", "measured"])
