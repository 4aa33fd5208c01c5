"""Compare two runs: did the code or a setting get slower, and did the machine?

Two questions, two figures. The normalized time divides by the calibration time of the same rounds,
which cancels the machine: it answers the first. The raw calibration time answers the second. Where
the software differs, the calibration workload may have changed with it, and only raw times are
left: these wander by tens of per cent on a shared machine, and are judged by the wide threshold of
the machine.

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
    other_changes,
    software_changes,
)
from xorbench.xor.matrix.recipe import Recipe

MILD_SHIFT: Final = 1.1  # a machine within its threshold, but worth a word
SCHEMA_VERSION: Final = 2
SLOW_MACHINE: Final = (
    "the machine takes longer for what has not changed: see its load and its clocks, then run B"
    " again"
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
    lost: list[str] = []  # A finished them and B did not
    untimed: list[str] = []  # both did, and no time of one side can be believed
    changes: list[Change]
    notes: list[str]
    intervals: str = ""  # what they allow for, where normalized times are compared
    advice: str = ""  # how to settle an open ratio, where more processes are not the way
    is_imported: bool = False  # a side is a file of another program, which cannot be run again
    outcome: ComparisonOutcome


VarianceOf = Callable[[Run, Run], RunVariance]


def packaged(_a: Run, _b: Run) -> RunVariance:
    """The scatter of runs that was measured on the reference machine."""
    return PACKAGED


def compare(
    a: Run,
    b: Run,
    *,
    threshold: float = THRESHOLD,
    machine_threshold: float = MACHINE_THRESHOLD,
    scatter: RunVariance = PACKAGED,
) -> Comparison:
    """Judge B against A: `threshold` is a share (0.05), `machine_threshold` a ratio (1.5).

    `scatter` is how much runs of unchanged code differ on the machine.
    """
    before, after = Evidence(a), Evidence(b)
    software = software_changes(a, b)
    figures: Figures = "raw" if software else "relative"
    limit = machine_threshold if software else 1 + threshold
    matched, notes = _matched(before, after)
    variants = _variants(before, after, matched, figures, limit, scatter)
    advice = quieter({"A": a, "B": b})
    machine = [] if software or not matched else _machine(before, after, machine_threshold, advice)
    judged_names = {row.subject for row in variants}
    untimed = [name for name in matched if name not in judged_names]
    lost = _lost(before, after) if matched else []
    outcome = verdict(variants, machine, [*lost, *untimed])
    changes = [*software, *other_changes(a, b), *answer_changes(before, after, matched)]
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
        intervals="" if software else scatter.description,
        advice=advice,
        outcome=outcome,
    )


def verdicts(comparison: Comparison) -> list[Verdict]:
    """Each ratio as a verdict, for a CI."""
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
            inconclusive("compare", case, "B has it too", "lost by B", LOST)
            for case in comparison.lost
        ),
        *untimed_verdicts(comparison.untimed, "report A, report B"),
    ]


def untimed_verdicts(names: Sequence[str], where: str) -> list[Verdict]:
    """That these cases were trained and have no time; `where` says why."""
    expected, hint = "a time that can be believed", f"its clock check says why: {where}"
    return [inconclusive("compare", name, expected, "none", hint) for name in names]


def verdict(
    variants: Sequence[Ratio], machine: Sequence[Ratio], lost: Sequence[str] = ()
) -> ComparisonOutcome:
    """Slower anywhere fails; nothing to compare, one undecided or lost, is never a pass."""
    speeds = {row.verdict for row in (*variants, *machine)}
    if "slower" in speeds:
        return "fail"
    return "inconclusive" if not variants or lost or "inconclusive" in speeds else "pass"


def _matched(a: Evidence, b: Evidence) -> tuple[list[str], list[str]]:
    """Ids of the variants that both runs finished by the same recipe, or why there are none."""
    info_a, info_b = a.run.info, b.run.info
    if info_a.recipe_sha256 != info_b.recipe_sha256:
        return [], [nothing_by_recipes(info_a.recipe, info_b.recipe)]
    if info_a.calibration_version != info_b.calibration_version:
        versions = f"{info_a.calibration_version} and {info_b.calibration_version}"
        return [], [f"nothing to compare: the calibration versions are {versions}"]
    ids_b = {variant.id for variant in b.variants}
    matched = [variant.id for variant in a.variants if variant.id in ids_b]
    return matched, [] if matched else ["nothing to compare: the runs have no case in common"]


def nothing_by_recipes(a: Recipe | None, b: Recipe | None) -> str:
    """Say that recipes differ, and in which fields as far as they are known."""
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
    scatter: RunVariance,
) -> list[Ratio]:
    raw = figures == "raw"
    before, after = (by_variant(e, log_epoch) if raw else normalized(e) for e in (a, b))
    names = [name for name in matched if name in before and name in after]
    logs_a, logs_b = ({name: side[name] for name in names} for side in (before, after))
    if raw:
        return judged_raw(pool(logs_a), pool(logs_b), limit)
    drifts = residual_drifts(a, b, scatter)
    return judged(relative_pool(logs_a, scatter), relative_pool(logs_b, scatter), limit, drifts)


def _machine(a: Evidence, b: Evidence, limit: float, advice: str) -> list[Ratio]:
    """The raw calibration time of each device, judged as cases are; without p: hours lie between.

    Devices differ in how much they scatter, so each has the deviation of its own times.
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
        return f"the interval is not within the threshold: {advice or 'more --processes'}"
    return _mild(row.ratio, limit)


def _mild(ratio: float, limit: float) -> str:
    if ratio > limit or ratio < 1 / limit or 1 / MILD_SHIFT <= ratio <= MILD_SHIFT:
        return ""
    pace = "slower" if ratio > 1 else "faster"
    return (
        f"the machine is {pace} now, within its threshold; the intervals of its cases allow for it"
    )


def _missing(evidence: Evidence, reference: Evidence) -> list[str]:
    """Variants that one run finished and the other did not."""
    reference_ids = {variant.id for variant in reference.variants}
    return [variant.id for variant in evidence.variants if variant.id not in reference_ids]


def _lost(a: Evidence, b: Evidence) -> list[str]:
    """What A finished, and B set out to train and did not finish in any process."""
    skipped = {skip.case.id for skip in b.run.skips}
    planned = {variant.id for variant in b.planned if variant.case.id not in skipped}
    return [name for name in _missing(a, b) if name in planned]


def quieter(runs: Mapping[str, Run]) -> str:
    """Which runs to repeat on a quieter machine; empty where none was disturbed."""
    disturbed = [name for name, run in runs.items() if trouble(run.system_samples)]
    return f"run {' and '.join(disturbed)} again on a quieter machine" if disturbed else ""


def fault_remarks(faults: Sequence[str]) -> list[str]:
    """That faults were injected, if any were."""
    return [f"has injected faults: {'; '.join(faults)}"] if faults else []


def remarks(run: Run) -> Iterator[str]:
    """What makes the speeds of a run other than those of its code."""
    yield from fault_remarks(run.info.faults)
    if run.info.stress:
        yield f"was put under stress ({run.info.stress}): its speeds are of no use"
    if run.unfinished or run.failures:
        yield f"lost or did not finish {len(run.unfinished) + len(run.failures)} training(s)"
    for text in trouble(run.system_samples):
        yield f"was {text}"
    evidence = Evidence(run)
    if count := sum(noisy(evidence.trainings[s.id]) for s in evidence.variants):
        yield f"is noisy in {count} of its {len(evidence.variants)} cases ({NOISY})"


def _advice(software: Sequence[Change], variants: Sequence[Ratio]) -> Iterator[str]:
    if software:
        yield (
            "the software differs, and with it the calibration workload: these are raw times,"
            " judged by --machine-threshold, and their intervals speak of the minutes of each run"
            " alone;"
            " to compare two interpreters in one run, interleaved: run --pythons OLD,NEW (or"
            " --threads, --env), then compare RUN --by python"
        )
    elif variants and any(row.low is None for row in variants):
        yield f"a run of {NO_INTERVAL}: --processes 2 or more"
