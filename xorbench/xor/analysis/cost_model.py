"""Cost of a step and of a sample: `epoch_s = a · batches + b · samples`, fitted to a run.

Variants that differ only in batch size, drop_last and seed share a line. Each batch size is one
point, the mean over its variants. The residuals are relative, so short and long epochs have equal
weight.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias

import numpy as np

from xorbench.records.schema.run import Run
from xorbench.stats.figure import Figure
from xorbench.stats.intervals import ALPHA, RealArray, pool, t_quantile
from xorbench.xor.analysis import speed
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.axes import CASE_AXES
from xorbench.xor.matrix.case import BASE_CONFIG, Case, Variant, device_type, short

FEWEST_SIZES: Final = 3
FREE: Final[dict[str, Any]] = {
    "batch_size": 128,
    "drop_last": True,
    "seed": 0,
}  # settings that vary along a line
NO_ACCELERATOR: Final = "no accelerator in this run to compare with"
NAMED: Final = ("device", "engine", *FREE)

PointsByBatch: TypeAlias = Mapping[int, RealArray]


@dataclass(frozen=True, slots=True)
class CostLine:
    """The variants of one line: `variant` has their common settings and the values of `FREE`.

    A setting without effect on this machine has its default.
    """

    variant: Variant

    @property
    def device(self) -> str:
        """The device of all variants."""
        return self.variant.case.device

    @property
    def engine(self) -> str:
        """The engine of all variants."""
        return self.variant.case.engine

    @property
    def settings(self) -> str:
        """The remaining settings that differ from their defaults, as text."""
        case, config = self.variant.case, self.variant.config
        parts = [f"{name}={short(getattr(case, name))}" for name in _unusual(case)]
        return ", ".join(parts + ([] if config.id == BASE_CONFIG else [config.id]))


@dataclass(frozen=True, slots=True)
class Fit:
    """The coefficients of a line: seconds per step and per sample, or None and the reason.

    Attributes:
        points: (batches per second, samples per second) by batch size.
        leave_one_out: relative error, at each batch size, of the line through the other sizes.
        overtakes: batch size from which an accelerator is faster than the CPU.
        note: why a number is missing, or its limits.
    """

    line: CostLine
    points: PointsByBatch
    step_s: Figure | None = None
    sample_s: Figure | None = None
    leave_one_out: Mapping[int, float] | None = None
    overtakes: float | None = None
    note: str = ""

    def leave_one_out_percent(self, statistic: Callable[[Sequence[float]], object]) -> float | None:
        """A statistic of the leave-one-out errors, in per cent."""
        errors = [100 * error for error in (self.leave_one_out or {}).values()]
        return float(statistic(errors)) if errors else None  # type: ignore[arg-type]

    def predicted_ratio(self, batches_per_s: float, samples_per_s: float) -> float:
        """The line's epoch time ÷ the measured one at these speeds; requires a fit."""
        assert self.step_s is not None
        assert self.sample_s is not None
        return self.step_s.value * batches_per_s + self.sample_s.value * samples_per_s


def coefficients(evidence: Evidence) -> list[Fit]:
    """One fit per line; an engine without a fit on a device gets its first line, unfitted."""
    lines = _lines(evidence)
    fits = [_fit(evidence, line, variants) for line, variants in lines.items()]
    fitted = {(fit.line.device, fit.line.engine) for fit in fits if fit.step_s}
    selected: dict[object, Fit] = {}
    for fit in fits:
        name = (fit.line.device, fit.line.engine)
        if fit.step_s or name not in fitted:
            selected.setdefault(fit.line if fit.step_s else name, fit)
    return [_compared_with_cpu(fit, list(selected.values())) for fit in selected.values()]


def _lines(evidence: Evidence) -> dict[CostLine, list[Variant]]:
    variants_by_line: dict[CostLine, list[Variant]] = {}
    accelerated = has_accelerator(evidence.run)
    for variant in evidence.variants:
        variants_by_line.setdefault(_line(variant, accelerated), []).append(variant)
    return variants_by_line


def has_accelerator(run: Run) -> bool:
    """Whether any process of the run has an accelerator."""
    return any(process.machine.get("accelerator") for process in run.info.processes)


def _line(variant: Variant, accelerated: bool) -> CostLine:
    idle = [axis for axis in CASE_AXES if axis.idle(variant.case, accelerated)]
    values = {**{axis.name: axis.default[0] for axis in idle}, **FREE}
    return CostLine(replace(variant, case=replace(variant.case, **values)))


def _unusual(case: Case) -> list[str]:
    own = [field for field in fields(case) if field.init and field.name not in NAMED]
    return [field.name for field in own if getattr(case, field.name) != field.default]


def _fit(evidence: Evidence, line: CostLine, variants: Sequence[Variant]) -> Fit:
    logs = {s.id: [speed.log_epoch(t) for t in evidence.timed[s.id]] for s in variants}
    variants = [s for s in variants if logs[s.id]]
    together = pool({s.id: logs[s.id] for s in variants})
    points = _points(variants, together.means)
    if len(points) < FEWEST_SIZES:
        wanted = f"{FEWEST_SIZES} are needed: --batch-sizes 32,64,128,256"
        return Fit(line, points, note=f"no fit: {len(points)} batch size(s), {wanted}")
    rows = np.stack(list(points.values()))
    if np.linalg.matrix_rank(rows) < 2:
        return Fit(line, points, note="no fit: all batch sizes have the same steps per sample")
    solution, variance = _least_squares(rows)
    processes = min(together.processes.values())
    shared = None if together.deviation is None else together.deviation**2 / processes
    step_s, sample_s = (
        _estimate(value, own, len(rows) - 2, shared, together.dof, processes)
        for value, own in zip(solution, variance, strict=True)
    )
    note = "" if min(solution) > 0 else "a fitted cost is not above zero: the model does not apply"
    return Fit(line, points, step_s, sample_s, _leave_one_out(points), note=note)


def _points(variants: Sequence[Variant], logs: Mapping[str, float]) -> dict[int, RealArray]:
    """The mean over variants of (batches, samples) per second, by ascending batch size."""
    rates_by_size: dict[int, list[RealArray]] = {}
    for variant in sorted(variants, key=lambda s: s.case.batch_size):
        size, drop, recipe = variant.case.batch_size, variant.case.drop_last, variant.recipe
        work = np.array([recipe.steps(size, drop), recipe.samples(size, drop)], dtype=float)
        rates_by_size.setdefault(size, []).append(work / math.exp(logs[variant.id]))
    return {size: np.mean(rows, axis=0) for size, rows in rates_by_size.items()}


def _least_squares(rows: RealArray) -> tuple[list[float], list[float]]:
    """The solution of `rows @ (a, b) = 1`, and the variance of a and b from the residuals."""
    solution = _solved(rows)
    residuals = rows @ solution - 1
    residual_variance = float(residuals @ residuals) / (len(rows) - 2)
    variance = residual_variance * np.diag(np.linalg.inv(rows.T @ rows))
    return [float(x) for x in solution], [float(x) for x in variance]


def _solved(rows: RealArray) -> RealArray:
    return np.asarray(np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0], dtype=float)


def _estimate(
    value: float,
    own: float,
    dof: int,
    shared: float | None,
    pooled_dof: float,
    processes: int,
) -> Figure:
    """A coefficient with Student's interval, from the residuals and the processes.

    `own` is the variance from the residuals, `shared` the relative variance between processes,
    common to all points. Degrees of freedom by Welch and Satterthwaite.
    """
    if shared is None:
        return Figure(value, None, None, processes)
    between = value**2 * shared
    total = own + between
    if total == 0.0:
        return Figure(value, value, value, processes)
    degrees = total**2 / (own**2 / dof + between**2 / pooled_dof)
    margin = t_quantile(degrees, 1 - ALPHA / 2) * math.sqrt(total)
    return Figure(value, value - margin, value + margin, processes)


def _leave_one_out(points: PointsByBatch) -> dict[int, float]:
    """The relative error, at each batch size, of the line through the other sizes."""
    errors = {}
    for size, row in points.items():
        others = np.stack([point for key, point in points.items() if key != size])
        errors[size] = abs(float(row @ _solved(others)) - 1)
    return errors


# Comparison of an accelerator with the CPU


def _compared_with_cpu(fit: Fit, fits: Sequence[Fit]) -> Fit:
    if fit.step_s is None:
        return fit
    if device_type(fit.line.device) == "cpu":
        only_cpu = all(device_type(fitted.line.device) == "cpu" for fitted in fits)
        return replace(fit, note=_joined(fit.note, NO_ACCELERATOR if only_cpu else ""))
    variant = fit.line.variant
    cpu_line = CostLine(replace(variant, case=replace(variant.case, device="cpu")))
    cpu = next((fitted for fitted in fits if fitted.line == cpu_line and fitted.step_s), None)
    if cpu is None:
        return replace(fit, note=_joined(fit.note, "no fit of the CPU to compare with"))
    batch_size, note = overtaking(fit, cpu)
    return replace(fit, overtakes=batch_size, note=_joined(fit.note, note))


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def overtaking(fit: Fit, cpu: Fit) -> tuple[float | None, str]:
    """The batch size from which `fit` is faster than the CPU, or the reason for its absence.

    An epoch of whole batches takes `a ÷ batch size + b` per sample: the lines cross at
    `(a - a of the CPU) ÷ (b of the CPU - b)`.
    """
    assert fit.step_s is not None
    assert fit.sample_s is not None
    assert cpu.step_s is not None
    assert cpu.sample_s is not None
    dearer_step = fit.step_s.value - cpu.step_s.value
    cheaper_sample = cpu.sample_s.value - fit.sample_s.value
    if dearer_step <= 0 and cheaper_sample >= 0:
        return None, "faster than the CPU at every batch size"
    if dearer_step >= 0 and cheaper_sample <= 0:
        return None, "never faster than the CPU"
    batch_size = dearer_step / cheaper_sample
    if dearer_step < 0:
        return None, f"faster than the CPU only below batch size {batch_size:,.0f}"
    beyond = batch_size > max(fit.points) or batch_size < min(fit.points)
    return batch_size, "extrapolated: outside the batch sizes of this run" if beyond else ""
