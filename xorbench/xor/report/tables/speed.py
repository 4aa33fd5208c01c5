"""The speed of each case, and the costs of settings, steps and samples."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from xorbench.records.schema.training import TrainingRecord
from xorbench.report.details import mib
from xorbench.report.text import frame_of
from xorbench.stats.figure import MISSING
from xorbench.stats.intervals import pooled
from xorbench.verdicts import Verdict
from xorbench.xor.analysis import speed
from xorbench.xor.analysis.cost_model import FREE
from xorbench.xor.analysis.cost_model import coefficients as fitted
from xorbench.xor.analysis.engine_gains import gains, identity_text
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.setting_costs import by_setting, log_speedups
from xorbench.xor.matrix.case import Variant
from xorbench.xor.report.compare import costs_frame
from xorbench.xor.report.tables.columns import (
    SETTINGS,
    narrow,
    score,
    setting_columns,
    with_settings,
)
from xorbench.xor.report.tables.table import Table, case_frame, figure, note


def throughput(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Speed of each variant.

    The interval of a raw speed covers fresh processes on this machine within minutes; the interval
    of a normalized time also covers later runs.
    """
    speeds, relative = speed.epochs_per_s(evidence), speed.normalized_time(evidence)
    ratios = pooled(log_speedups(evidence))
    rows = []
    for variant in evidence.variants:
        measured, case = speeds.get(variant.id), variant.case
        steps = variant.recipe.steps(case.batch_size, case.drop_last)
        rows.append(
            {
                "case": variant.id,
                "samples/s": figure(measured, speed.samples(variant)),
                "epochs/s": figure(measured),
                "steps/s": figure(measured, steps),
                "IQR (%)": speed.iqr_percent(evidence.trainings[variant.id]),
                "processes": measured.processes if measured else 0,
                "epochs": sum(len(t.epoch_s) for t in evidence.trainings[variant.id]),
                "normalized time": figure(relative.get(variant.id)),
                "speedup": figure(ratios.get(variant.id)),
                "accelerator peak (MiB)": _peakmib(evidence.trainings[variant.id]),
                "note": _speed_note(evidence, variant),
            }
        )
    return case_frame(rows, evidence)


def _speed_note(evidence: Evidence, variant: Variant) -> str:
    trainings = evidence.trainings[variant.id]
    clock = len(evidence.timed[variant.id]) < len(trainings)
    flags = (
        "invalid times: see the clock check" if clock else "",
        f"noisy: {speed.NOISY}" if speed.noisy(trainings) else "",
    )
    return "; ".join(filter(None, [note(evidence.run, variant), *flags]))


def _peakmib(trainings: Sequence[TrainingRecord]) -> float | None:
    peaks = [t.accelerator_peak_bytes for t in trainings if t.accelerator_peak_bytes is not None]
    return mib(max(peaks, default=None))


def engines(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The speed of each engine relative to the loader engine, for cases with several engines."""
    rows = []
    for gain in gains(evidence):
        worst = min(evidence.trainings[gain.variant.id], key=lambda t: t.test.correct)
        rows.append(
            {
                "case": gain.variant.id,
                "epochs/s": figure(gain.epochs_per_s),
                "epochs/s ÷ loader": MISSING if gain.ratio is None else gain.ratio.figure,
                "identical to loader": identity_text(gain),
                "largest difference (ulps)": gain.ulps if gain.diverged_at is not None else None,
                **score("test", worst.test),
                "start-up (s)": gain.startup_s,
                "break-even after (epochs)": gain.break_even_after,
            }
        )
    return with_settings(frame_of(rows), evidence.planned)


def costs(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The cost of each change of a setting, over all its pairs of cases."""
    return costs_frame(by_setting(evidence))


def coefficients(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The cost of a step and of a sample on each device and engine, fitted by batch size."""
    fits = fitted(evidence)
    rows = [
        {
            "settings": fit.line.settings,
            "a (µs a step)": figure(fit.step_s, 1e6),
            "b (ns a sample)": figure(fit.sample_s, 1e9),
            "batch sizes": " ".join(map(str, fit.points)),
            "leave-one-out error, median (%)": fit.leave_one_out_percent(np.median),
            "leave-one-out error, largest (%)": fit.leave_one_out_percent(np.max),
            "overtakes the CPU at (batch size)": fit.overtakes,
            "note": fit.note,
        }
        for fit in fits
    ]
    settings = setting_columns([fit.line.variant for fit in fits], exclude=FREE)
    return pd.concat([pd.DataFrame(settings), frame_of(rows)], axis="columns")


def narrow_coefficients(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with device and engine as columns, and the remaining settings as text."""
    keys = ("device", "engine")
    return frame.drop(columns=[name for name in SETTINGS if name in frame and name not in keys])


THROUGHPUT: Final = Table(
    "throughput",
    "Throughput",
    throughput,
    about=(
        "The centre is the geometric mean of the processes' median epochs; the 95%"
        " interval is Student's t between processes, pooled over the cases. It covers fresh"
        " processes on this machine within minutes, not later runs. To compare runs, use"
        " `normalized time` (lower is faster): it is divided by the calibration time of the"
        " same rounds, and its interval includes run-to-run variance. Epochs/s and steps/s"
        " are the same speed in different units, with the same relative interval."
        " `speedup` is paired round by round with the first case."
    ),
    terminal=True,
    csv="always",
    brief=narrow,
)
ENGINES: Final = Table(
    "engines",
    "Engines",
    engines,
    about=(
        "`÷ loader` is paired round by round within each process. Bits are compared within"
        " the PyTorch training; the check `universal` compares the universal training with"
        " the golden digest. Start-up is the slowest set-up of the engine in a fresh"
        " process: capturing, compiling and loading. Later cases reuse compiled code. It"
        " breaks even after the number of faster epochs that recovers the start-up."
    ),
    terminal=True,
    optional=True,
    csv="if any",
    brief=narrow,
)
COSTS: Final = Table(
    "costs",
    "What each setting costs here",
    costs,
    about=(
        "Epoch time with the setting at `to` ÷ at `from`, paired round by round: the"
        " geometric mean over all pairs of cases that differ only in this setting, its"
        " 95% interval, and the lowest and highest pair."
    ),
    optional=True,
)
COST_MODEL: Final = Table(
    "cost_model",
    "Cost of a step and of a sample",
    coefficients,
    about=(
        "`epoch_s = a · batches + b · samples`, fitted through the batch sizes with the least"
        " relative error. The 95% interval includes the deviations from the line and the"
        " variance between processes. The leave-one-out error, at each size, is the error of"
        " the line through the other sizes. An accelerator overtakes the CPU where their two"
        " lines cross."
    ),
    optional=True,
    csv="if any",
    brief=narrow_coefficients,
)
