"""Compare an imported file with another file or a run, by raw times.

An imported file has no calibration times, so only a wide threshold can judge it, and no epoch
digests: its digests and scores are shown as claims.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from xorbench.records.nested import flat
from xorbench.records.pytest_benchmark import Benchmark, ImportInfo
from xorbench.records.schema.run import Run
from xorbench.stats.intervals import pool, spread
from xorbench.stats.ratio import NO_INTERVAL, judged_raw
from xorbench.stats.thresholds import MACHINE_THRESHOLD, THRESHOLD
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import by_variant, log_epoch
from xorbench.xor.compare.changes import Change, differences, kernel_hint
from xorbench.xor.compare.comparison import (
    Comparison,
    fault_remarks,
    recipes_text,
    remarks,
    verdict,
)
from xorbench.xor.matrix.recipe import Recipe

CLAIMS: Final = ("accuracy", "weights_sha256")


@dataclass(frozen=True, slots=True)
class Measured:
    """The data that runs and imported files have in common.

    `logs` has the log of each process's median round in seconds, by benchmark. `recipe` and its
    SHA-256 are None if the file lacks them.
    """

    id: str
    logs: Mapping[str, Sequence[float]]
    claims: Mapping[str, Mapping[str, str]]
    machine: Mapping[str, str]
    recipe: Recipe | None
    recipe_sha256: str | None
    remarks: Sequence[str] = ()


def from_import(info: ImportInfo) -> Measured:
    """The data of an imported file."""
    file = info.imported
    machine = file.machine_info.get("xorbench", file.machine_info)
    return Measured(
        id=info.id,
        logs={b.fullname: log_medians(b) for b in file.benchmarks},
        claims={b.fullname: _claims(b.extra_info) for b in file.benchmarks},
        machine=flat(machine if isinstance(machine, dict) else {}),
        recipe=file.xorbench.recipe if file.xorbench else None,
        recipe_sha256=file.xorbench.recipe_sha256 if file.xorbench else None,
        remarks=fault_remarks(file.xorbench.faults if file.xorbench else ()),
    )


def log_medians(benchmark: Benchmark) -> list[float]:
    """Log of each process's median round in seconds; of all rounds if the file kept none."""
    medians = [spread(rounds).median for rounds in benchmark.processes]
    return [math.log(median) for median in medians or [benchmark.stats.median]]


def _claims(extra_info: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(extra_info[key]) for key in CLAIMS if key in extra_info}


def from_run(run: Run) -> Measured:
    """The data of a run."""
    evidence = Evidence(run)
    firsts = {variant.id: evidence.first(variant) for variant in evidence.variants}
    claims = {
        name: {
            "accuracy": f"{first.test.correct}/{first.test.total}",
            "weights_sha256": first.weights_sha256,
        }
        for name, first in firsts.items()
    }
    return Measured(
        id=run.info.id,
        logs=by_variant(evidence, log_epoch),
        claims=claims,
        machine=flat(run.machine),
        recipe=run.info.recipe,
        recipe_sha256=run.info.recipe_sha256,
        remarks=list(remarks(run)),
    )


def compare(
    a: Measured, b: Measured, *, threshold: float = THRESHOLD, limit: float = MACHINE_THRESHOLD
) -> Comparison:
    """Judge B against A by raw times: slower than `limit` times fails; `threshold` is unused."""
    matched, notes = _matched(a, b)
    before, after = (pool({name: measured.logs[name] for name in matched}) for measured in (a, b))
    variants = [
        msgspec.structs.replace(row, note=NO_INTERVAL if row.low is None else row.note)
        for row in judged_raw(before, after, limit)
    ]
    notes.append(
        "an imported file has no calibration times: these are raw times, judged by"
        " --machine-threshold, and their intervals cover only the minutes of each measurement. Its"
        " digests and scores are claims of the file"
    )
    if any(row.low is None for row in variants):
        notes.append(f"{NO_INTERVAL}, however many rounds it ran")
    notes += [f"{side} {text}" for side, m in (("A", a), ("B", b)) for text in m.remarks]
    changes = _changes(a, b, matched)
    notes += kernel_hint(changes)
    return Comparison(
        a=a.id,
        b=b.id,
        figures="raw",
        threshold=threshold,
        machine_threshold=limit,
        variants=variants,
        machine=[],
        only_a=[name for name in a.logs if name not in b.logs],
        only_b=[name for name in b.logs if name not in a.logs],
        changes=changes,
        notes=notes,
        is_imported=True,
        outcome=verdict(variants, []),
    )


def _matched(a: Measured, b: Measured) -> tuple[list[str], list[str]]:
    if a.recipe_sha256 and b.recipe_sha256 and a.recipe_sha256 != b.recipe_sha256:
        return [], [recipes_text(a.recipe, b.recipe)]
    matched = [name for name in a.logs if name in b.logs]
    return matched, [] if matched else ["nothing to compare: no benchmark in common"]


def _changes(a: Measured, b: Measured, matched: Sequence[str]) -> list[Change]:
    """The details that differ, among those that both have."""
    changes = [*differences("machine", *_shared(a.machine, b.machine))]
    for name in matched:
        changes += differences(name, *_shared(a.claims[name], b.claims[name]))
    return changes


def _shared(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    keys = [key for key in a if key in b]
    return {key: a[key] for key in keys}, {key: b[key] for key in keys}
