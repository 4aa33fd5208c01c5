"""The tables of a run as data frames: numbers, with their units in the headers.

`X`, `X low` and `X high` are a figure and its 95 % interval; text shows them as one column.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from xorbench.judge import speed
from xorbench.judge.checks.sameness import source
from xorbench.judge.cost_model import constants as fitted
from xorbench.judge.cost_model import has_accelerator
from xorbench.judge.engines import gains, same_bits
from xorbench.judge.evidence import Evidence
from xorbench.judge.float64_error import drift_ulps
from xorbench.judge.paired_ratios import by_setting
from xorbench.judge.settings_table import settings_table as judged_settings_table
from xorbench.judge.stats import Estimate, estimates, pooled
from xorbench.observe.records import Run, TrainingRecord, Verdict
from xorbench.plan.axes import idle_note
from xorbench.plan.case import Variant
from xorbench.plan.registry import Registry
from xorbench.report.compare import costs_frame
from xorbench.report.text import TableRow, frame_of


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a run's report.

    Attributes:
        make: the function from run and verdicts to its rows; `X`, `X low` and `X high` in the
            names of its columns are a figure and its interval.
        about: what stands under its title.
        terminal: it is printed at the end of a run.
        optional: it is left out where it has no rows.
        csv: whether it is written as a CSV file too: always, if it has rows, or not at all.
        in_full: what the CSV file holds in place of the rows.
    """

    name: str
    title: str
    make: Callable[[Run, Sequence[Verdict]], pd.DataFrame]
    about: str = ""
    terminal: bool = False
    optional: bool = False
    csv: Literal["always", "if any", "never"] = "never"
    in_full: Callable[[Run], pd.DataFrame] | None = None

    def filed(self, frame: pd.DataFrame, run: Run) -> pd.DataFrame | None:
        """What its CSV file holds; None where it has none."""
        if self.csv == "never" or (self.csv == "if any" and frame.empty):
            return None
        return self.in_full(run) if self.in_full else frame


SUBJECT_CHECKS: Final = ("rerun", "warm-up", "save and load")


def throughput(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Speed of each variant.

    The interval of a raw speed speaks of fresh processes on this machine, this minute; that of the
    relative one of another run.
    """
    evidence = Evidence(run)
    speeds = pooled(speed.by_variant(evidence, lambda t: -speed.log_epoch(t)))
    relative = estimates(speed.relative_pool(speed.by_variant(evidence, speed.log_relative)))
    ratios = pooled(speed.log_speedups(evidence))
    rows = []
    for variant in evidence.variants:
        epochs_per_s, case = speeds.get(variant.id), variant.case
        samples = variant.recipe.samples(case.batch_size, case.drop_last)
        steps = variant.recipe.steps(case.batch_size, case.drop_last)
        rows.append(
            {
                "case": variant.id,
                **_figure("samples/s", epochs_per_s, samples),
                **_figure("epochs/s", epochs_per_s),
                **_figure("steps/s", epochs_per_s, steps),
                "IQR (%)": speed.iqr_percent(evidence.trainings[variant.id]),
                "processes": epochs_per_s.processes if epochs_per_s else 0,
                "epochs": sum(len(t.epoch_s) for t in evidence.trainings[variant.id]),
                **_figure("normalized time", relative.get(variant.id)),
                **_figure("speedup", ratios.get(variant.id)),
                "accelerator peak (MiB)": _peakmib(evidence.trainings[variant.id]),
                "note": _speed_note(evidence, variant),
            }
        )
    return _frame(rows, run)


def accuracy(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Right answers as integers, the worst process's where they differ, and the last loss."""
    evidence = Evidence(run)
    rows = []
    for variant in evidence.variants:
        worst = min(evidence.trainings[variant.id], key=lambda t: (t.test.correct, t.train.correct))
        rows.append(
            {
                "case": variant.id,
                "test correct": worst.test.correct,
                "test total": worst.test.total,
                "train correct": worst.train.correct,
                "train total": worst.train.total,
                "last loss": worst.losses[-1],
                "processes": len(evidence.trainings[variant.id]),
                "note": _note(run, variant),
            }
        )
    return _frame(rows, run)


def determinism(run: Run, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The digest of each variant's weights, and what each check says of them."""
    evidence = Evidence(run)
    outcomes = {(v.check, v.subject): v.outcome for v in verdicts}
    rows = []
    for variant in evidence.variants:
        first = evidence.first(variant)
        rows.append(
            {
                "case": variant.id,
                "weights sha256": first.weights_sha256,
                "processes": len(evidence.trainings[variant.id]),
                "inputs": outcomes.get(("inputs", source(variant)), ""),
                **{check: outcomes.get((check, variant.id), "") for check in SUBJECT_CHECKS},
                "note": _note(run, variant),
            }
        )
    return _frame(rows, run)


def engines(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """What each engine gains over the loader engine, where more than one ran on the same case."""
    evidence = Evidence(run)
    rows = []
    for gain in gains(evidence):
        worst = min(evidence.trainings[gain.variant.id], key=lambda t: t.test.correct)
        rows.append(
            {
                "case": gain.variant.id,
                **_figure("epochs/s", gain.epochs_per_s),
                **_figure("epochs/s ÷ loader", gain.ratio),
                "same bits as loader": same_bits(gain),
                "largest difference (ulps)": gain.ulps if gain.diverged_at is not None else None,
                "test correct": worst.test.correct,
                "test total": worst.test.total,
                "start-up (s)": gain.startup_s,
                "break-even after (epochs)": gain.break_even_after,
            }
        )
    return frame_of(rows)


def settings_table(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """What changing each setting must do to the bits, and what it did."""
    rows = [
        {
            "setting": row.setting,
            "bits": row.must,
            "because": row.reason,
            "seen": row.seen,
            "pairs": row.pairs or None,
            "outcome": row.outcome,
        }
        for row in judged_settings_table(Evidence(run))
    ]
    return frame_of(rows, ["setting", "bits", "because", "seen", "pairs", "outcome"])


def error(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Largest error of a weight after some epochs, in ulps of the largest, of the worst process."""
    rows = []
    for case, errors in _errors(run).items():
        shown = sorted({0, len(errors) // 10, len(errors) // 2, len(errors) - 1})
        after = {f"after epoch {at} (ulps)": errors[at] for at in shown}
        rows.append({"case": case, **after, "largest (ulps)": max(errors)})
    return pd.DataFrame(rows)


def errors(run: Run) -> pd.DataFrame:
    """The same after every epoch, one column a case."""
    return pd.DataFrame(_errors(run)).rename_axis("epoch").reset_index()


def _errors(run: Run) -> dict[str, list[float]]:
    """After each epoch the worst process's error, by variant."""
    evidence = Evidence(run)
    found = {}
    for variant in evidence.variants:
        each = [drift_ulps(evidence, one) for one in evidence.trainings[variant.id]]
        if all(each):
            found[variant.id] = [max(after) for after in zip(*each, strict=True)]
    return found


def costs(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """What each change of a setting costs here, over all pairs of cases that show it."""
    return costs_frame(by_setting(Evidence(run)))


def constants(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """What a step and a sample cost each device and engine, by a line through its batch sizes."""
    rows = [
        {
            "device": fit.line.device,
            "engine": fit.line.engine,
            "settings": fit.line.settings,
            **_figure("a (µs a step)", fit.step_s, 1e6),
            **_figure("b (ns a sample)", fit.sample_s, 1e9),
            "batch sizes": " ".join(map(str, fit.points)),
            "leave-one-out error, median (%)": fit.left_out_percent(np.median),
            "leave-one-out error, largest (%)": fit.left_out_percent(np.max),
            "overtakes the CPU at (batch size)": fit.overtakes,
            "note": fit.note,
        }
        for fit in fitted(Evidence(run))
    ]
    return pd.DataFrame(rows)


def lost(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Cases that were skipped, failed, or not brought to their end, each with the reason."""
    return pd.DataFrame(list(_lost_rows(run)), columns=["case", "process", "what", "reason"])


def _lost_rows(run: Run) -> Iterator[TableRow]:
    for skip in run.skips:
        yield {"case": skip.case.id, "process": "", "what": "skipped", "reason": skip.skipped}
    evidence = Evidence(run)
    for failure in run.failures:
        variant = evidence.variant(failure)
        yield {
            "case": variant.id,
            "process": failure.process,
            "what": "failed",
            "reason": failure.failed,
        }
    for open_case in run.unfinished:
        done = f"{open_case.epochs} of {run.info.recipe.epochs} epochs"
        yield {
            "case": open_case.case.id,
            "process": open_case.slot,
            "what": "unfinished",
            "reason": f"{done}; --resume {run.info.id} goes on",
        }


def processes(run: Run, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The processes that trained."""
    rows = [
        {
            "process": process.id,
            "config": process.config.id,
            "PyTorch": process.machine.get("torch_version", ""),
            "threads": process.machine.get("threads"),
            "instruction set": process.machine.get("cpu_capability", ""),
            "peak memory (MiB)": mib(process.peak_rss_bytes),
            "ended": f"died: {process.died}"
            if process.died
            else "well"
            if run.info.finished
            else "",
        }
        for process in run.info.processes
    ]
    return frame_of(rows)


def checks(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """How many subjects passed each check."""
    frame = pd.DataFrame(
        {"check": [v.check for v in verdicts], "outcome": [v.outcome for v in verdicts]}
    )
    outcomes = ["pass", "fail", "inconclusive", "skipped"]
    if frame.empty:
        return pd.DataFrame(columns=["check", *outcomes])
    counts = pd.crosstab(frame["check"], frame["outcome"])
    counts = counts.reindex(index=frame["check"].unique(), columns=outcomes, fill_value=0)
    return counts.rename_axis("check").rename_axis(None, axis="columns").reset_index()


TABLES: Final = Registry(
    "tables",
    Table,
    (
        Table(
            "throughput",
            "Throughput",
            throughput,
            about=(
                "The centre is the geometric mean of the processes' median epochs; the 95 %"
                " interval is Student's t between processes, pooled over the cases. It speaks of"
                " fresh processes on this machine in these minutes, not of tomorrow: for that,"
                " compare `normalized time` (lower is faster), which divides by the calibration"
                " time of the same rounds, and whose interval also holds what moves from run to"
                " run. Epochs/s and steps/s are the same speed in other units, with the same"
                " relative interval. `speedup` is paired round by round with the first case."
            ),
            terminal=True,
            csv="always",
        ),
        Table(
            "accuracy",
            "Accuracy",
            accuracy,
            about="Counted as integers. Of several processes the worst is shown.",
            terminal=True,
            csv="always",
        ),
        Table(
            "determinism",
            "Determinism",
            determinism,
            about=(
                "The first 16 digits of the SHA-256 over the trained weights; the CSV file has all"
                " 64. `rerun`: every process recorded the same digests epoch by epoch."
            ),
            terminal=True,
            csv="always",
        ),
        Table(
            "engines",
            "Engines",
            engines,
            about=(
                "`÷ loader` is paired round by round within each process. Bits are compared within"
                " the PyTorch training: the universal training has its own, which the check"
                " `universal` compares with the golden digest. Start-up is the engine's slowest"
                " opening in a fresh process, to capture, to compile, to load: what one case"
                " compiled, the next finds. It breaks even once the faster epochs have made up for"
                " it."
            ),
            terminal=True,
            optional=True,
            csv="if any",
        ),
        Table(
            "float64_error",
            "How far the weights are from double precision",
            error,
            about=(
                "The largest error of a weight against the same training in float64 (same points,"
                " order and initial weights), in float32's ulps at the largest weight, of the worst"
                " process. Two devices with other bits but errors of one size have both rounded;"
                " one with a far larger error is wrong. The CSV file has every epoch."
            ),
            optional=True,
            csv="if any",
            in_full=errors,
        ),
        Table(
            "settings",
            "What changing each setting does to the bits",
            settings_table,
            about=(
                "What a change of one setting alone must do to the bits, compared with what this"
                " run saw. `ulps`: how many float32 numbers lie between two weights after that"
                " epoch, at most."
            ),
        ),
        Table(
            "costs",
            "What each setting costs here",
            costs,
            about=(
                "Epoch time with the setting at `to` ÷ at `from`, paired round by round: the"
                " geometric mean over all pairs of cases that differ in this setting alone, its"
                " 95 % interval, and the lowest and highest pair."
            ),
            optional=True,
        ),
        Table(
            "cost_model",
            "What a step and a sample cost here",
            constants,
            about=(
                "`epoch_s = a · batches + b · samples`, the line of least relative error through"
                " the batch sizes; its 95 % interval holds both how far they lie off the line and"
                " how far processes lie apart. The leave-one-out error is that of the line through"
                " the others, at each size in turn. An accelerator overtakes the CPU where their"
                " two lines cross."
            ),
            optional=True,
            csv="if any",
        ),
        Table(
            "not trained",
            "Skipped, failed and unfinished cases",
            lost,
            terminal=True,
            optional=True,
        ),
        Table(
            "processes",
            "Processes",
            processes,
        ),
        Table(
            "checks",
            "Checks",
            lambda _run, verdicts: checks(verdicts),
        ),
    ),
)


def _frame(rows: list[TableRow], run: Run) -> pd.DataFrame:
    """The rows, and one for each case that has none, which says why."""
    shown = {row["case"] for row in rows}
    reasons: dict[str, str] = {}
    for row in _lost_rows(run):
        if row["case"] not in shown:
            reasons.setdefault(row["case"], f"{row['what']}: {row['reason']}")
    return frame_of(rows + [{"case": case, "note": note} for case, note in reasons.items()])


def _speed_note(evidence: Evidence, variant: Variant) -> str:
    trainings = evidence.trainings[variant.id]
    clock = len(speed.timed(evidence, variant)) < len(trainings)
    flags = (
        "times left out: see the clock check" if clock else "",
        f"noisy: {speed.NOISY}" if speed.noisy(trainings) else "",
    )
    return "; ".join(filter(None, [_note(evidence.run, variant), *flags]))


def _note(run: Run, variant: Variant) -> str:
    notes = [idle_note(variant.case, has_accelerator(run))]
    if any(f.case == variant.case and f.config == variant.config.id for f in run.failures):
        notes.append("failed in another process")
    return "; ".join(filter(None, notes))


def _figure(name: str, estimate: Estimate | None, scale: float = 1.0) -> TableRow:
    if estimate is None:
        return {name: None, f"{name} low": None, f"{name} high": None}
    bounds = (estimate.value, estimate.low, estimate.high)
    keys = (name, f"{name} low", f"{name} high")
    return {k: None if b is None else b * scale for k, b in zip(keys, bounds, strict=True)}


def _peakmib(trainings: Sequence[TrainingRecord]) -> float | None:
    peaks = [t.accelerator_peak_bytes for t in trainings if t.accelerator_peak_bytes is not None]
    return mib(max(peaks, default=None))


def mib(size: int | None) -> float | None:
    """Bytes as MiB."""
    return None if size is None else size / 2**20
