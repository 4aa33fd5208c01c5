"""The judged files of a run: verdicts, tables, reports."""

from collections.abc import Sequence

from xorbench.observe.records import Run, Verdict
from xorbench.observe.store import RunStore
from xorbench.report import document, page, plots
from xorbench.report.tables import CSV_TABLES, TABLES
from xorbench.report.text import FORMATS


def write_reports(store: RunStore, run: Run, verdicts: Sequence[Verdict]) -> None:
    """Write everything that is made from the observations alone."""
    store.write_json("verdicts.json", verdicts)
    for name in CSV_TABLES:
        store.write_text(f"{name}.csv", FORMATS["csv"](TABLES[name](run, verdicts)))
    store.write_text("report.md", document.markdown(run, verdicts))
    drawn = {name: plot(run) for name, plot in plots.PLOTS.items()}
    for name, svg in drawn.items():
        store.write_text(f"plots/{name}.svg", svg)
    store.write_text("report.html", page.html(run, verdicts, drawn))
