"""Compare two runs: did the code or a setting get slower, and did the machine?

The normalized time answers the first question. It divides by the calibration time of the same
rounds, so the machine cancels. The raw calibration time answers the second question. If the
software differs, the calibration workload may differ, too, and only raw times remain. They drift
by tens of per cent on a shared machine, so the wide threshold of the machine applies.

Both figures are judged by one rule, `decide`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Final, Literal

import msgspec
from msgspec import Struct

from xorbench.machine.quiet import trouble
from xorbench.records.schema.run import Run
from xorbench.stats.intervals import pool, shift
from xorbench.stats.ratio import (
    BOTH,
    NO_INTERVAL,
    Ratio,
    judged,
    judged_raw,
    judged_shifts,
    ratio_verdict,
)
from xorbench.stats.thresholds import MACHINE_THRESHOLD, THRESHOLD
from xorbench.verdicts import Verdict, inconclusive
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import (
    NOISY,
    PACKAGED,
    RunVariance,
    by_variant,
    calibrations,
    log_epoch,
    noisy,
    normalized,
    relative_pool,
    residual_drifts,
)
from xorbench.xor.compare.changes import (
    Change,
    answer_changes,
    kernel_hint,
    remaining_changes,
    software_changes,
)
from xorbench.xor.matrix.recipe import Recipe

MILD_SHIFT: Final = 1.1  # within the threshold of the machine, but reported
SCHEMA_VERSION: Final = 2
SLOW_MACHINE: Final = (
    "the machine is slower on unchanged work: check its load and its clocks, then rerun B"
)
LOST: Final = "see why B did not finish it: report B"

Figures = Literal["relative", "raw"]
ComparisonOutcome = Literal["pass", "fail", "inconclusive"]


class Comparison(Struct, frozen=True, kw_only=True):
    """The result of comparing B with A."""

    schema_version: int = SCHEMA_VERSION
    a: str
    b: str
    figures: Figures
    threshold: float
    machine_threshold: float
    variants: list[Ratio]
    machine: list[Ratio]
    only_a: list[str]
    only_b: list[str]
    lost: list[str] = []  # finished by A, not by B
    untimed: list[str] = []  # finished by both, without valid times on one side
    changes: list[Change]
    notes: list[str]
    intervals: str = ""  # the variance that intervals of normalized times include
    advice: str = ""  # how to resolve an inconclusive ratio if more processes do not help
    is_imported: bool = False  # a side is an imported file, which cannot be rerun
    outcome: ComparisonOutcome


VarianceOf = Callable[[Run, Run], RunVariance]


def packaged(_a: Run, _b: Run) -> RunVariance:
    """The run-to-run variance of the reference machine."""
    return PACKAGED


def compare(
    a: Run,
    b: Run,
    *,
    threshold: float = THRESHOLD,
    machine_threshold: float = MACHINE_THRESHOLD,
    variance: RunVariance = PACKAGED,
) -> Comparison:
    """Judge B against A: `threshold` is a share (0.05), `machine_threshold` a ratio (1.5).

    `variance` is the run-to-run variance of unchanged code on the machine.
    """
    before, after = Evidence(a), Evidence(b)
    software = software_changes(a, b)
    figures: Figures = "raw" if software else "relative"
    limit = machine_threshold if software else 1 + threshold
    matched, notes = _matched(before, after)
    variants = _variants(before, after, matched, figures, limit, variance)
    advice = quieter({"A": a, "B": b})
    machine = [] if software or not matched else _machine(before, after, machine_threshold, advice)
    judged_names = {row.subject for row in variants}
    untimed = [name for name in matched if name not in judged_names]
    lost = _lost(before, after) if matched else []
    outcome = verdict(variants, machine, [*lost, *untimed])
    changes = [*software, *remaining_changes(a, b), *answer_changes(before, after, matched)]
    for name, run in (("A", a), ("B", b)):
        notes += [f"{name} {text}" for text in remarks(run)]
    notes += [*_advice(software, variants), *kernel_hint(changes)]
    return Comparison(
        a=a.info.id,
        b=b.info.id,
        figures=figures,
        threshold=threshold,
        machine_threshold=machine_threshold,
        variants=variants,
        machine=machine,
        only_a=_missing(before, after),
        only_b=_missing(after, before),
        lost=lost,
        untimed=untimed,
        changes=changes,
        notes=notes,
        intervals="" if software else variance.description,
        advice=advice,
        outcome=outcome,
    )


def verdicts(comparison: Comparison) -> list[Verdict]:
    """Each ratio as a verdict."""
    limits = (1 + comparison.threshold, comparison.machine_threshold)
    code, machine = limits if comparison.figures == "relative" else (limits[1], limits[1])
    again = "" if comparison.is_imported else BOTH
    judged = partial(ratio_verdict, again=again, advice=comparison.advice)
    case_verdict = partial(judged, "compare", limit=code)
    machine_verdict = partial(judged, "machine", limit=machine, slower=SLOW_MACHINE)
    return [
        *map(case_verdict, comparison.variants),
        *map(machine_verdict, comparison.machine),
        *(
            inconclusive("compare", case, "finished by B", "not finished", LOST)
            for case in comparison.lost
        ),
        *untimed_verdicts(comparison.untimed, "report A, report B"),
    ]


def untimed_verdicts(names: Sequence[str], where: str) -> list[Verdict]:
    """Inconclusive verdicts for cases without valid times; `where` names the report."""
    expected, hint = "a valid time", f"see the clock check: {where}"
    return [inconclusive("compare", name, expected, "none", hint) for name in names]


def verdict(
    variants: Sequence[Ratio], machine: Sequence[Ratio], lost: Sequence[str] = ()
) -> ComparisonOutcome:
    """`fail` if any ratio is slower; never `pass` with no, undecided or lost cases."""
    speeds = {row.verdict for row in (*variants, *machine)}
    if "slower" in speeds:
        return "fail"
    return "inconclusive" if not variants or lost or "inconclusive" in speeds else "pass"


def _matched(a: Evidence, b: Evidence) -> tuple[list[str], list[str]]:
    """Ids of the variants that both runs finished with one recipe, or why they are absent."""
    info_a, info_b = a.run.info, b.run.info
    if info_a.recipe_sha256 != info_b.recipe_sha256:
        return [], [recipes_text(info_a.recipe, info_b.recipe)]
    if info_a.calibration_version != info_b.calibration_version:
        versions = f"{info_a.calibration_version} and {info_b.calibration_version}"
        return [], [f"nothing to compare: the calibration versions are {versions}"]
    ids_b = {variant.id for variant in b.variants}
    matched = [variant.id for variant in a.variants if variant.id in ids_b]
    return matched, [] if matched else ["nothing to compare: the runs have no case in common"]


def recipes_text(a: Recipe | None, b: Recipe | None) -> str:
    """The difference of two recipes, by field if both are known."""
    differing = [
        f"{f.name} {getattr(a, f.name)} (A), {getattr(b, f.name)} (B)"
        for f in fields(Recipe)
        if a and b and getattr(a, f.name) != getattr(b, f.name)
    ]
    return f"nothing to compare: recipes differ: {'; '.join(differing) or 'by their SHA-256'}"


def _variants(
    a: Evidence,
    b: Evidence,
    matched: Sequence[str],
    figures: Figures,
    limit: float,
    variance: RunVariance,
) -> list[Ratio]:
    raw = figures == "raw"
    before, after = (by_variant(e, log_epoch) if raw else normalized(e) for e in (a, b))
    names = [name for name in matched if name in before and name in after]
    logs_a, logs_b = ({name: side[name] for name in names} for side in (before, after))
    if raw:
        return judged_raw(pool(logs_a), pool(logs_b), limit)
    drifts = residual_drifts(a, b, variance)
    return judged(relative_pool(logs_a, variance), relative_pool(logs_b, variance), limit, drifts)


def _machine(a: Evidence, b: Evidence, limit: float, advice: str) -> list[Ratio]:
    """The raw calibration time of each device, judged like a case, but without p.

    The runs may be hours apart, which p does not include. Each device has the deviation of its own
    times.
    """
    before, after = calibrations(a), calibrations(b)
    names = sorted(name for name in before if name in after)
    shifts = {n: shift(pool({n: before[n]}), pool({n: after[n]}), n) for n in names}
    return [
        msgspec.structs.replace(row, p=None, note=row.note or _machine_note(row, limit, advice))
        for row in judged_shifts(shifts, limit)
    ]


def _machine_note(row: Ratio, limit: float, advice: str) -> str:
    if row.verdict == "inconclusive":
        return f"the interval contains the threshold: {advice or 'more --processes'}"
    return _mild(row.ratio, limit)


def _mild(ratio: float, limit: float) -> str:
    if ratio > limit or ratio < 1 / limit or 1 / MILD_SHIFT <= ratio <= MILD_SHIFT:
        return ""
    pace = "slower" if ratio > 1 else "faster"
    return f"the machine is {pace}, within its threshold; the case intervals include this"


def _missing(evidence: Evidence, reference: Evidence) -> list[str]:
    """Variants that the first run finished and the reference did not."""
    reference_ids = {variant.id for variant in reference.variants}
    return [variant.id for variant in evidence.variants if variant.id not in reference_ids]


def _lost(a: Evidence, b: Evidence) -> list[str]:
    """Variants that A finished, and that B planned but did not finish in any process."""
    skipped = {skip.case.id for skip in b.run.skips}
    planned = {variant.id for variant in b.planned if variant.case.id not in skipped}
    return [name for name in _missing(a, b) if name in planned]


def quieter(runs: Mapping[str, Run]) -> str:
    """The runs to repeat on a quieter machine; empty if none was disturbed."""
    disturbed = [name for name, run in runs.items() if trouble(run.system_samples)]
    return f"rerun {' and '.join(disturbed)} on a quieter machine" if disturbed else ""


def fault_remarks(faults: Sequence[str]) -> list[str]:
    """The injected faults as a remark; empty without faults."""
    return [f"has injected faults: {'; '.join(faults)}"] if faults else []


def remarks(run: Run) -> Iterator[str]:
    """Conditions under which the speeds of a run do not represent its code."""
    yield from fault_remarks(run.info.faults)
    if run.info.stress:
        yield f"ran under load (--stress {run.info.stress}): its speeds are not comparable"
    if run.unfinished or run.failures:
        yield f"failed or did not finish {len(run.unfinished) + len(run.failures)} training(s)"
    for text in trouble(run.system_samples):
        yield f"was {text}"
    evidence = Evidence(run)
    if count := sum(noisy(evidence.trainings[s.id]) for s in evidence.variants):
        yield f"is noisy in {count} of its {len(evidence.variants)} cases ({NOISY})"


def _advice(software: Sequence[Change], variants: Sequence[Ratio]) -> Iterator[str]:
    if software:
        yield (
            "the software differs, and with it the calibration workload: these are raw times,"
            " judged by --machine-threshold, and their intervals cover only the minutes of each"
            " run. To compare two interpreters interleaved in one run: run --pythons OLD,NEW (or"
            " --threads, --env), then compare RUN --by python"
        )
    elif variants and any(row.low is None for row in variants):
        yield f"a run of {NO_INTERVAL}: --processes 2 or more"
