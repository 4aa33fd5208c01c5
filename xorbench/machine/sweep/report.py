"""The report of a sweep: recipe, machine, outcomes by batch size, and speed."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import pandas as pd

from xorbench.machine.sweep.plots import (
    draw_examples,
    draw_shares,
    points_text,
    shares,
    shares_text,
    shown_points,
)
from xorbench.machine.sweep.results import SweepEvidence, Tally, answers
from xorbench.report.content import Content, Picture, Section
from xorbench.report.details import checks, flattened, machine_line, mib
from xorbench.report.text import TableRow, frame_of
from xorbench.stats.figure import MISSING, Figure
from xorbench.stats.intervals import pooled, wilson
from xorbench.verdicts import Verdict

SCORE_ROWS: Final = 12
EPOCH_ROWS: Final = 10
NEVER: Final = "never"
SETTINGS: Final = ("batch_size", "drop_last")  # columns of the CSV files
HEADERS: Final = {"batch_size": "batch size"}  # of the tables in reports
LIBRARIES: Final = {"numba": ("numba",), "torch": ("PyTorch",), "triton": ("PyTorch", "Triton")}
KEYS: Final = {"PyTorch": "torch"}


def content(evidence: SweepEvidence, verdicts: Sequence[Verdict]) -> Content:
    """The content of a sweep's report."""
    return Content(
        id=evidence.info.id,
        schema_version=evidence.info.schema_version,
        anonymous=evidence.info.anonymous,
        heading=heading(evidence),
        sections=sections(evidence, verdicts),
        pictures=[
            Picture(
                name="success",
                title="All correct after each epoch",
                caption=SUCCESS,
                data=partial(shares, evidence),
                draw=draw_shares,
                describe=shares_text,
                under="sweep",
            ),
            Picture(
                name="boundary",
                title="Decision boundaries",
                caption=BOUNDARY,
                data=partial(shown_points, evidence),
                draw=lambda _frame: draw_examples(evidence),
                describe=points_text,
                under="scores",
            ),
        ],
        verdicts=verdicts,
        answers=answers(evidence, verdicts),
        environment=[
            *flattened("host", evidence.info.host),
            *flattened("", evidence.info.processes[-1].machine),
        ],
        again=[evidence.info.command],
    )


def heading(evidence: SweepEvidence) -> list[tuple[str, str]]:
    """The rows that identify the sweep: recipe, seeds, machine, versions, command, date."""
    info = evidence.info
    plan, recipe = info.plan, info.plan.recipe
    return [
        ("sweep", info.id + (f" ({info.name})" if info.name else "")),
        ("command", info.command),
        ("started", info.started),
        ("finished", info.finished or "not yet"),
        (
            "recipe",
            f"{recipe.train_size} train and {recipe.test_size} test points, std {recipe.std:g},"
            f" lr {recipe.lr:g}, {recipe.epochs} epochs, drop_last {str(plan.drop_last).lower()}",
        ),
        ("seeds", ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in plan.seeds)),
        ("machine", machine_line(info.host)),
        ("software", _software(evidence)),
        ("trained by", _trained_by(evidence)),
    ]


def _software(evidence: SweepEvidence) -> str:
    machine = evidence.info.processes[-1].machine
    names = ("Python", "NumPy", *LIBRARIES.get(evidence.info.backend, ()))
    versions = [
        f"{name} {machine.get(f'{KEYS.get(name, name.lower())}_version')}" for name in names
    ]
    return f"{', '.join(versions)}, {machine.get('os')}"


def _trained_by(evidence: SweepEvidence) -> str:
    process = evidence.info.processes[-1]
    chunk = f"chunks of {evidence.info.plan.chunk} seeds"
    note = f"; {process.note}" if process.note else ""
    models = [str(d["name"]) for d in process.machine.get("devices", []) if "name" in d]
    device = f"{process.device} ({models[0]})" if models else process.device
    return f"{process.backend} on {device}, {process.threads} threads, {chunk}{note}"


# Tables


def sections(evidence: SweepEvidence, verdicts: Sequence[Verdict]) -> list[Section]:
    """The tables: counts first, times last."""
    counts = outcomes(evidence)
    return [
        Section("sweep", "Outcomes", shown_outcomes(counts), OUTCOMES, counts, terminal=True),
        Section("scores", "Final scores", few_scores(evidence), SCORES, scores(evidence), True),
        Section("epochs", "All correct after", few_epochs(evidence), EPOCHS, epochs(evidence)),
        Section("speed", "Speed", speed(evidence), SPEED, terminal=True),
        Section("processes", "Processes", processes(evidence), PROCESSES),
        Section("checks", "Checks", checks(verdicts)),
    ]


def outcomes(evidence: SweepEvidence) -> pd.DataFrame:
    """One row per batch size: the number of seeds that learn the problem, and their epochs."""
    return frame_of([_outcome(evidence, tally) for tally in evidence.tallies])


def shown_outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """The outcomes for a report: without the common setting, `never` for a missing epoch."""
    texts = {
        name: [NEVER if pd.isna(epoch) else str(epoch) for epoch in frame[name]]
        for name in frame.columns
        if name.startswith("first epoch")
    }
    return frame.assign(**texts).drop(columns="drop_last").rename(columns=HEADERS)


def _settings(evidence: SweepEvidence, tally: Tally) -> TableRow:
    """The settings that a count depends on."""
    return {"batch_size": tally.batch_size, "drop_last": evidence.info.plan.drop_last}


def _outcome(evidence: SweepEvidence, tally: Tally) -> TableRow:
    share = MISSING
    if tally.seeds:
        low, high = wilson(tally.all_correct, tally.seeds)
        share = Figure(100 * tally.all_correct / tally.seeds, 100 * low, 100 * high)
    q1, median, q3 = tally.quartiles()
    return {
        **_settings(evidence, tally),
        "seeds": tally.seeds,
        "all correct": tally.all_correct,
        "share (%)": share,
        "first epoch q1": q1,
        "first epoch median": median,
        "first epoch q3": q3,
        "never": tally.never,
        "later lost": tally.later_lost,
        "lost at the end": tally.lost_at_the_end,
        "combined sha256": tally.combined_sha256,
    }


def scores(evidence: SweepEvidence) -> pd.DataFrame:
    """One row per final score, with its number of seeds."""
    rows = [
        {
            **_settings(evidence, t),
            "correct": score,
            "total": t.total,
            "accuracy": score / t.total,
            "seeds": t.scores[score],
        }
        for t in evidence.tallies
        for score in sorted(t.scores, reverse=True)
    ]
    return frame_of(rows, [*SETTINGS, "correct", "total", "accuracy", "seeds"])


def few_scores(evidence: SweepEvidence) -> pd.DataFrame:
    """The highest scores in one row each, the rest in one row; one column per batch size."""
    ordered = sorted({score for t in evidence.tallies for score in t.scores}, reverse=True)
    groups = [[score] for score in ordered[:SCORE_ROWS]]
    if ordered[SCORE_ROWS:]:
        groups.append(ordered[SCORE_ROWS:])
    rows = [
        {
            "correct": f"{group[-1]}-{group[0]}" if len(group) > 1 else str(group[0]),
            **{_column(t): sum(t.scores[score] for score in group) for t in evidence.tallies},
        }
        for group in groups
    ]
    return pd.DataFrame(rows, columns=["correct", *map(_column, evidence.tallies)])


def epochs(evidence: SweepEvidence) -> pd.DataFrame:
    """One row per epoch: the number of all-correct seeds, in total and for the first time."""
    rows = [
        {
            **_settings(evidence, t),
            "epoch": epoch,
            "all correct": correct,
            "for the first time": t.first_epochs[epoch],
        }
        for t in evidence.tallies
        for epoch, correct in enumerate(t.correct_after)
    ]
    return frame_of(rows, [*SETTINGS, "epoch", "all correct", "for the first time"])


def few_epochs(evidence: SweepEvidence) -> pd.DataFrame:
    """The number of all-correct seeds after evenly spaced epochs, one column per batch size."""
    last = evidence.info.plan.recipe.epochs
    shown = sorted({-(-last * part // EPOCH_ROWS) - 1 for part in range(1, EPOCH_ROWS + 1)})
    tallies = [tally for tally in evidence.tallies if tally.seeds]
    rows = [
        {"epoch": epoch, **{_column(t): t.correct_after[epoch] for t in tallies}} for epoch in shown
    ]
    return pd.DataFrame(rows if tallies else [], columns=["epoch", *map(_column, tallies)])


def _column(tally: Tally) -> str:
    return f"batch {tally.batch_size}"


def speed(evidence: SweepEvidence) -> pd.DataFrame:
    """Epochs of one model per second, without start-up."""
    timed = [tally for tally in evidence.tallies if tally.rates]
    return frame_of([_speed(tally) for tally in timed])


def _speed(tally: Tally) -> TableRow:
    """The total rate, with the interval of the mean rate of the full-size chunks."""
    epochs, seconds = (sum(part) for part in zip(*tally.rates, strict=True))
    largest = max(epochs for epochs, _ in tally.rates)
    whole = [math.log(epochs / s) for epochs, s in tally.rates if epochs == largest]
    estimate = pooled({"": whole})[""]
    rate = epochs / seconds
    low, high = (b and b / estimate.value * rate for b in (estimate.low, estimate.high))
    return {
        "batch size": tally.batch_size,
        "model-epochs": epochs,
        "seconds": seconds,
        "model-epochs/s": Figure(rate, low, high),
        "chunks": len(tally.rates),
    }


def processes(evidence: SweepEvidence) -> pd.DataFrame:
    """The training processes and their start-up times."""
    rows = [
        {
            "process": process.id,
            "backend": process.backend,
            "device": process.device,
            "threads": process.threads,
            "import (s)": process.import_s,
            "compile (s)": process.compile_s,
            "peak memory (MiB)": mib(process.peak_rss_bytes),
            "ended": f"died: {process.died}" if process.died else "",
        }
        for process in evidence.info.processes
    ]
    return pd.DataFrame(rows)


OUTCOMES: Final = (
    "Exact counts, identical on every machine, backend, chunk size and number of cores."
    " `all correct`: every test point is correct after the last epoch, with Wilson's interval."
    " `first epoch`: quartiles over seeds of the first epoch with every test point correct;"
    " `never`: no such epoch. `later lost`: all correct once, but not after some later epoch;"
    " `lost at the end`: not after the last epoch. `combined sha256`: over the digests of all seeds"
    " in ascending order; the CSV file has all 64 digits."
)
SCORES: Final = "Seeds by correct points after the last epoch; the CSV file has all scores."
EPOCHS: Final = "All-correct seeds after each epoch, from 0; the CSV file has all epochs."
SPEED: Final = (
    "Epochs of one model per second, with points, scores after every epoch and digests, without"
    " start-up. The interval is Student's t between full-size chunks; it covers this process during"
    " this sweep only."
)
PROCESSES: Final = (
    "Start-up is not part of the speed: `import` loads the libraries, `compile` trains one epoch."
)
SUCCESS: Final = "Share of seeds with every test point correct after each epoch"
BOUNDARY: Final = (
    "Region where the first model that learned the problem, and the model with the lowest score,"
    " answer 1; crosses are wrong test points"
)
