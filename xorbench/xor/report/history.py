"""Each case over all runs, with changes marked by the rule of `compare`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, get_args

import pandas as pd

from xorbench.answers import Answer
from xorbench.records.schema.line import SCHEMA_VERSION
from xorbench.records.schema.run import Run
from xorbench.report.content import Content, Picture, Section
from xorbench.report.drawing import MOST_LINES, drawn, legend, line_style, short_names, tally
from xorbench.report.svg import INK
from xorbench.report.text import TableRow, figure_columns, frame_of
from xorbench.stats.figure import MISSING, Figure
from xorbench.stats.ratio import Ratio, Speed
from xorbench.verdicts import Outcome
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import normalized_time
from xorbench.xor.compare.comparison import Comparison, VarianceOf, compare, packaged
from xorbench.xor.report.tables.columns import with_settings

FIGURE: Final = "normalized time"
MOST_TIMES: Final = 8  # below the picture
BEFORE: Final = "÷ before"
COLUMNS: Final = [
    "case", "started", "run", *figure_columns(FIGURE), *figure_columns(BEFORE), "change",
    "judged by", "note",
]  # fmt: skip
UNCHANGED: Final = {"change": "", "judged by": ""}
ABOUT: Final = (
    "Each case in order of time. `÷ before` is its time ÷ its time in the previous run with this"
    " case, and `change` is the verdict of `compare` on the two: by normalized time (lower is"
    " faster) or, if the software differs, by raw times and the wide threshold of the machine."
)
MACHINE: Final = "The raw calibration time of each run ÷ the time of the previous run."


def content(runs: Sequence[Run], variance_of: VarianceOf = packaged) -> Content:
    """The content of the history of these runs, the oldest first.

    `variance_of` gives the run-to-run variance for two runs.
    """
    runs = sorted(runs, key=lambda run: run.info.started)
    cases = history(runs, variance_of)
    data = with_settings(cases, [variant for run in runs for variant in Evidence(run).planned])
    changed = cases[cases["change"].isin(["slower", "faster"])]
    return Content(
        id="history",
        schema_version=SCHEMA_VERSION,
        anonymous=all(run.info.anonymous for run in runs),
        heading=[
            ("runs", str(len(runs))),
            ("started", f"{runs[0].info.started} to {runs[-1].info.started}" if runs else ""),
        ],
        sections=[
            Section("changes", "Changes", changed, terminal=True),
            Section("history", "Each case over all runs", cases, ABOUT, csv=data, terminal=True),
            Section("machine", "The machine", machine(runs), MACHINE, terminal=True),
        ],
        pictures=[
            Picture(
                name="history",
                title="Each case over all runs",
                caption="Normalized time (lower is faster), relative to the case's first run (or,"
                " if the recipe, the calibration workload or the software changed, to the first run"
                " after the change); a triangle marks a change from the previous run by the rule of"
                " `compare`: slower (up) or faster (down)",
                data=lambda: cases,
                draw=draw_history,
                describe=lambda frame: _described(frame, len(changed)),
                under="history",
            )
        ],
        verdicts=[],
        answers=[_answer(len(runs), cases["change"])],
    )


def _described(frame: pd.DataFrame, changes: int) -> str:
    cases = tally(frame["case"].nunique(), MOST_LINES)
    return f"{cases} cases drawn; {len(frame)} figures and {changes} changes in total."


def _answer(count: int, changes: "pd.Series[str]") -> Answer:
    """`fail` if a case changed, `inconclusive` if a case is undecided."""
    kinds = changes.value_counts()
    changed, open_cases = kinds.reindex(["slower", "faster"]).sum(), kinds.get("inconclusive", 0)
    sentence = f"{kinds.get('slower', 0)} slower and {kinds.get('faster', 0)} faster than before"
    judged: Outcome = "fail" if changed else "inconclusive" if open_cases else "pass"
    outcome: Outcome = "skipped" if count < 2 else judged
    undecided = f"; {open_cases} inconclusive" if open_cases else ""
    sentence = f"{sentence}, in {count} runs{undecided}"
    return Answer("Is each case as fast as it was?", outcome, sentence)


def history(runs: Sequence[Run], variance_of: VarianceOf = packaged) -> pd.DataFrame:
    """One row per case and run, ordered by case and time."""
    before: dict[str, Run] = {}
    comparisons: dict[tuple[str, str], Comparison] = {}
    rows: list[TableRow] = []
    for run in runs:
        evidence = Evidence(run)
        times = normalized_time(evidence)
        for variant in evidence.variants:
            row = _row(run, variant.id, times.get(variant.id, MISSING))
            if older := before.get(variant.id):
                key = (older.info.id, run.info.id)
                if key not in comparisons:
                    comparisons[key] = compare(older, run, variance=variance_of(older, run))
                row |= _change(comparisons[key], variant.id)
            before[variant.id] = run
            rows.append(row)
    places = {case: place for place, case in enumerate(before)}
    rows.sort(key=lambda row: places[row["case"]])  # stable: ordered by time within a case
    return frame_of(rows, COLUMNS)


def _row(run: Run, case: str, time: Figure) -> TableRow:
    run_cells = {"started": run.info.started, "run": run.info.id}
    return {"case": case, **run_cells, FIGURE: time, **UNCHANGED, "note": _note(run)}


def _note(run: Run) -> str:
    """Conditions under which the speeds of a run do not represent its code."""
    injected = [f"injected: {'; '.join(run.info.faults)}"] if run.info.faults else []
    loaded = [f"under load: {run.info.stress}"] if run.info.stress else []
    return "; ".join([*injected, *loaded])


def _change(comparison: Comparison, variant: str) -> TableRow:
    row = next((ratio for ratio in comparison.variants if ratio.subject == variant), None)
    if row is None:
        return {"change": "; ".join(comparison.notes[:1]) or "not comparable"}
    return {**_ratio(row), "judged by": comparison.figures}


def _ratio(ratio: Ratio) -> TableRow:
    return {BEFORE: ratio.figure, "change": ratio.verdict}


def machine(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per device and run, from the second run on."""
    rows = [
        {"device": row.subject, "started": run.info.started, "run": run.info.id, **_ratio(row)}
        for older, run in pairwise(runs)
        for row in compare(older, run).machine
    ]
    return frame_of(rows, ["device", "started", "run", *figure_columns(BEFORE), "change"])


def _comparable(own: pd.DataFrame) -> "list[pd.DataFrame]":
    """The rows of one case, split where a run is not comparable with the previous one."""
    known = own["change"].isin(["", *get_args(Speed)]) & (own["judged by"] != "raw")
    return [part for _, part in own.groupby((~known).cumsum())]


def draw_history(frame: pd.DataFrame) -> str:
    """One line per case over the runs."""
    times = list(dict.fromkeys(frame.sort_values("started")["started"]))
    cases = list(dict.fromkeys(frame["case"]))[:MOST_LINES]
    with drawn(3.4) as (axes, out):
        for index, (case, name) in enumerate(zip(cases, short_names(cases), strict=True)):
            for number, own in enumerate(_comparable(frame[frame["case"] == case])):
                places = [times.index(started) for started in own["started"]]
                values = own[FIGURE] / own[FIGURE].iloc[0]
                label = "" if number else name  # an empty label is not in the legend
                axes.plot(places, values, label=label, marker=".", **line_style(index))
                for change, marker in (("slower", "^"), ("faster", "v")):
                    hit = [p for p, c in zip(places, own["change"], strict=True) if c == change]
                    axes.plot(hit, values[own["change"] == change], marker, color=INK, markersize=7)
        shown = range(0, len(times), 1 + len(times) // MOST_TIMES)
        axes.set_xticks(shown, [times[tick][:16] for tick in shown], rotation=30, ha="right")
        axes.set_ylabel("÷ first comparable run")
        legend(axes)
    return out.getvalue()
