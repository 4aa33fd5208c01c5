"""Runs side by side: a description of each run, and each case in all runs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_uppercase
from typing import Final, get_args

import msgspec
import pandas as pd
from matplotlib.axes import Axes

from xorbench.answers import Answer
from xorbench.recorder.environment import labelled
from xorbench.records.schema.line import SCHEMA_VERSION
from xorbench.records.schema.run import Run
from xorbench.report.content import Content, Picture, Section
from xorbench.report.details import machine_line, software
from xorbench.report.drawing import COLOURS, drawn, legend, middles, name_rows, short_names, tally
from xorbench.report.text import TableRow, figure_columns, frame_of
from xorbench.stats.figure import MISSING, Figure, number
from xorbench.stats.ratio import Speed
from xorbench.verdicts import Verdict, capitalized, failed, passed, summary, worst
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import normalized_time, samples_per_s
from xorbench.xor.compare.comparison import Comparison, VarianceOf, compare, packaged, quieter
from xorbench.xor.compare.comparison import verdicts as compared
from xorbench.xor.report.tables.correctness import worst_training
from xorbench.xor.report.tables.table import lost_reasons

MARKERS: Final = "osD^vP*X"
MOST_ROWS: Final = 40  # rows of a picture
FAR: Final = 20  # ratio of the fastest case to the slowest
DIFFERENT: Final = "diff A B shows the first difference"
TIMES: Final = {"relative": "normalized time", "raw": "raw time"}


@dataclass(frozen=True, slots=True, eq=False)
class RunSide:
    """One of the runs, with its verdicts."""

    evidence: Evidence
    verdicts: Sequence[Verdict]

    @property
    def run(self) -> Run:
        """The observations of the run."""
        return self.evidence.run


def content(sides: Sequence[RunSide], variance_of: VarianceOf = packaged) -> Content:
    """The content of their common report.

    `variance_of` gives the run-to-run variance for two runs.
    """
    named = {label(index): side for index, side in enumerate(sides)}
    results = comparisons(named, variance_of)
    verdicts = [
        *(_with_label(name, verdict) for name, side in named.items() for verdict in side.verdicts),
        *bits_verdicts(bits(named)),
        *(
            _with_label(f"{name} ÷ {label(0)}", v)
            for name, result in results.items()
            for v in compared(result)
        ),
    ]
    ids = [side.run.info.id for side in sides]
    return Content(
        id=" ".join(ids),
        schema_version=SCHEMA_VERSION,
        anonymous=all(side.run.info.anonymous for side in sides),
        heading=[(name, _line(side.run)) for name, side in named.items()],
        sections=[
            Section("runs", "Runs", runs(named), terminal=True),
            Section("throughput", "Throughput", speeds(named), SPEEDS, terminal=True),
            Section(
                "calibration",
                "Normalized time",
                relative(named),
                RELATIVE,
                terminal=True,
            ),
            Section("bits", "Identical bits", bits(named), BITS, terminal=True),
            Section("accuracy", "Accuracy", scores(named), SCORES, terminal=True),
        ],
        pictures=[
            Picture(
                name="speeds",
                title="Speed by case and run",
                caption="Samples per second of each case in each run, with its 95% interval",
                data=partial(speeds, named),
                draw=partial(draw_speeds, list(named)),
                describe=describe_speeds,
                under="throughput",
            )
        ],
        verdicts=verdicts,
        answers=answers(named, results),
        again=[side.run.info.command for side in sides],
    )


def _with_label(side: str, verdict: Verdict) -> Verdict:
    return msgspec.structs.replace(verdict, subject=f"{side}: {verdict.subject}")


def comparisons(sides: dict[str, RunSide], variance_of: VarianceOf) -> dict[str, Comparison]:
    """Each run except the first compared with the first, by its label."""
    ((first, reference), *others), results = sides.items(), {}
    for name, side in others:
        runs = (reference.run, side.run)
        advice = quieter({first: reference.run, name: side.run})
        comparison = compare(*runs, variance=variance_of(*runs))
        results[name] = msgspec.structs.replace(comparison, advice=advice)
    return results


def answers(sides: dict[str, RunSide], results: dict[str, Comparison]) -> list[Answer]:
    """The answers on the bits, the speed, and the checks of the runs."""
    checks = "; ".join(
        f"{name}: {summary(side.verdicts).removeprefix('checks: ')}" for name, side in sides.items()
    )
    every = worst([verdict for side in sides.values() for verdict in side.verdicts])
    return [
        _identical_bits(bits(sides)),
        *(
            _as_fast(f"Is {name} as fast as {label(0)}?", result)
            for name, result in results.items()
        ),
        Answer("Does every run pass its checks?", every, checks),
    ]


def _identical_bits(frame: pd.DataFrame) -> Answer:
    question = "Are the runs bitwise identical?"
    common = frame[frame["same"] != ""]
    differing = common.loc[common["same"] == "no", "case"].tolist()
    if common.empty:
        return Answer(question, "skipped", "The runs have no case in common")
    if differing:
        cases = f"{len(differing)} of {_common(len(common))}"
        return Answer(question, "fail", f"Different in {cases}: {differing[0]}")
    return Answer(question, "pass", f"Identical in {_common(len(common))}")


def bits_verdicts(frame: pd.DataFrame) -> list[Verdict]:
    """One verdict per case that at least two runs have."""
    expected = "identical weights in all runs"
    return [
        passed("identical bits", case, expected, "identical")
        if same == "yes"
        else failed("identical bits", case, expected, "different", DIFFERENT)
        for case, same in zip(frame["case"], frame["same"], strict=True)
        if same
    ]


def _common(count: int) -> str:
    return f"{count} case{'s' if count > 1 else ''} in common"


def _as_fast(question: str, comparison: Comparison) -> Answer:
    """The verdict of `compare` on the cases in common; not judged without any."""
    if comparison.untimed and not comparison.variants:
        text = f"Invalid times: {', '.join(comparison.untimed)}"
        return Answer(question, comparison.outcome, text)
    if not comparison.variants:
        return Answer(question, "skipped", capitalized(comparison.notes[0]))
    counts = Counter(row.verdict for row in comparison.variants)
    text = ", ".join(f"{counts[kind]} {kind}" for kind in get_args(Speed) if counts[kind])
    machine = ", ".join(f"{row.subject} {row.verdict}" for row in comparison.machine)
    common = _common(len(comparison.variants))
    parts = [f"{common}: {text}, by {TIMES[comparison.figures]}"]
    parts += [f"the machine: {machine}"] if machine else []
    parts += [f"not finished: {', '.join(comparison.lost)}"] if comparison.lost else []
    return Answer(question, comparison.outcome, "; ".join(parts))


def label(index: int) -> str:
    """The name of a run: A to Z, then R27 and so on."""
    return ascii_uppercase[index] if index < len(ascii_uppercase) else f"R{index + 1}"


def _line(run: Run) -> str:
    return f"{run.info.id}, {machine_line(run.info.host)}, {software(run.machine)}"


def runs(sides: dict[str, RunSide]) -> pd.DataFrame:
    """A description of each run."""
    return pd.DataFrame([_run_row(name, side) for name, side in sides.items()])


def _run_row(name: str, side: RunSide) -> TableRow:
    return {
        "side": name,
        "run": side.run.info.id,
        "name": side.run.info.name or "",
        "started": side.run.info.started,
        "machine": machine_line(side.run.info.host),
        **labelled(side.run.machine, "torch_version", "cpu_capability"),
        "checks": summary(side.verdicts).removeprefix("checks: "),
    }


def _side_by_side(
    sides: dict[str, RunSide], figures: Callable[[Evidence], dict[str, Figure]], column: str
) -> pd.DataFrame:
    """A figure of every case, with one column per run."""
    rows: dict[str, TableRow] = {}
    for name, side in sides.items():
        measured, cases = figures(side.evidence), [s.id for s in side.evidence.variants]
        for case in [*cases, *lost_reasons(side.evidence, cases)] if cases else []:
            row = rows.setdefault(case, {"case": case})
            row[f"{name} {column}"] = measured.get(case, MISSING)
    names = [end for name in sides for end in figure_columns(f"{name} {column}")]
    return frame_of(list(rows.values()), ["case", *names])


def speeds(sides: dict[str, RunSide]) -> pd.DataFrame:
    """Samples per second of every case."""
    return _side_by_side(sides, samples_per_s, "samples/s")


def relative(sides: dict[str, RunSide]) -> pd.DataFrame:
    """Normalized time of every case."""
    return _side_by_side(sides, normalized_time, "normalized time")


def bits(sides: dict[str, RunSide]) -> pd.DataFrame:
    """The digest of every case by run, and whether all are identical."""
    cases: dict[str, TableRow] = {}
    for name, side in sides.items():
        for variant in side.evidence.variants:
            row = cases.setdefault(variant.id, {})
            row[f"{name} sha256"] = side.evidence.first(variant).weights_sha256
    rows = [{"case": case, **row, "same": _same(list(row.values()))} for case, row in cases.items()]
    columns = [f"{name} sha256" for name in sides]
    return pd.DataFrame(rows, columns=["case", *columns, "same"]).fillna("")


def _same(digests: list[str]) -> str:
    if len(digests) < 2:
        return ""
    return "yes" if len(set(digests)) == 1 else "no"


def scores(sides: dict[str, RunSide]) -> pd.DataFrame:
    """The correct test points of every case, in the worst process."""
    rows: dict[str, TableRow] = {}
    for name, side in sides.items():
        for variant in side.evidence.variants:
            test = worst_training(side.evidence, variant).test
            row = rows.setdefault(variant.id, {"case": variant.id})
            row[f"{name} correct"] = f"{test.correct}/{test.total}"
    columns = ["case", *(f"{name} correct" for name in sides)]
    return pd.DataFrame(list(rows.values()), columns=columns).fillna("")


def draw_speeds(names: Sequence[str], frame: pd.DataFrame) -> str:
    """One marker per run, with its whisker."""
    frame = frame.head(MOST_ROWS)
    with drawn(0.8) as (axes, out):
        places = pd.Series(middles(name_rows(axes, short_names(list(frame["case"])))))
        for index, name in enumerate(names):
            values, low, high = (frame[f"{name} samples/s{e}"] for e in ("", " low", " high"))
            margins = [(values - low).fillna(0), (high - values).fillna(0)]
            axes.errorbar(
                values,
                places + 0.6 * (index / max(1, len(names) - 1) - 0.5),
                xerr=margins,
                fmt=MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                markersize=4,
                capsize=2,
                label=name,
            )
        _scale(axes, frame)
        axes.set_xlabel("samples/s (95% interval)")
        axes.grid(visible=False, axis="y")
        legend(axes)
    return out.getvalue()


def _scale(axes: Axes, frame: pd.DataFrame) -> None:
    """A linear axis from zero, or a logarithmic one if the slow cases would overlap."""
    values = _speeds(frame)
    if values.max().max() > FAR * values.min().min():
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)  # labels of six digits do not touch
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _speeds(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[name for name in frame.columns if name.endswith(" samples/s")]]


def describe_speeds(frame: pd.DataFrame) -> str:
    """The range of the speeds."""
    values = _speeds(frame)
    low, high = values.min().min(), values.max().max()
    return f"{tally(len(frame), MOST_ROWS)} cases, from {number(low)} to {number(high)} samples/s."


SPEEDS = (
    "Each run was timed separately: on a shared machine, raw speeds drift by far more than their"
    " intervals. Use `compare` to find out whether something got slower."
)
RELATIVE = (
    "Epoch time ÷ calibration time of the same rounds (lower is faster), so the machine cancels."
)
BITS = "The digest of the trained weights of each case."
SCORES = "Correct test points; the worst process of each run."
