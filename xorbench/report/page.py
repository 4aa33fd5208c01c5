"""`report.html`: the whole report as one file that needs no network."""

from collections.abc import Sequence
from typing import Final

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xorbench.judge.checks import summary
from xorbench.observe.records import Run, Verdict
from xorbench.report import document
from xorbench.report.tables import TABLES
from xorbench.report.text import footnoted, readable

CAPTIONS: Final = {
    "throughput": "Samples per second of each case; the whisker is the 95 % interval",
    "loss": "Loss of the last step of each epoch, one line for each distinct training",
    "epochs": "Epoch time over the run, relative to each case's median: drift and noise",
}


def html(run: Run, verdicts: Sequence[Verdict], plots: dict[str, str]) -> str:
    """The page; everything but our own pictures is escaped."""
    environment = Environment(
        loader=PackageLoader("xorbench.report"), autoescape=True, undefined=StrictUndefined
    )
    tables = {name: readable(table(run, verdicts)) for name, table in TABLES.items()}
    return environment.get_template("report.html.jinja").render(
        title=f"xorbench {run.info.id}",
        verdict=summary(verdicts),
        failed=any(verdict.outcome == "fail" for verdict in verdicts),
        failures=document.failures(verdicts),
        heading=document.heading(run),
        pictures=[(CAPTIONS[name], _inline(svg)) for name, svg in plots.items() if svg],
        tables=[_table(name, frame) for name, frame in tables.items() if not frame.empty],
    )


def _table(name: str, frame: pd.DataFrame) -> dict[str, object]:
    table, notes = footnoted(frame)
    return {
        "title": document.TITLES[name],
        "about": document.EXPLANATIONS.get(name, "").replace("`", ""),
        "columns": list(table.columns),
        "rows": table.to_numpy().tolist(),
        "notes": notes,
    }


def _inline(svg: str) -> Markup:
    """The picture without its XML declaration; matplotlib has escaped the text in it."""
    return Markup(svg[svg.index("<svg") :])
