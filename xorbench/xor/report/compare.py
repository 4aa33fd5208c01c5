"""A comparison as text, as Markdown and for programs."""

from collections.abc import Iterator, Sequence

import msgspec
import pandas as pd

from xorbench.report.text import (
    Part,
    Prose,
    TableRow,
    Title,
    figure_columns,
    frame_of,
    markdown_text,
    terminal_text,
)
from xorbench.stats.ratio import Ratio
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.setting_costs import Cost
from xorbench.xor.compare.by_axis import AxisComparison, AxisPair
from xorbench.xor.compare.comparison import Comparison
from xorbench.xor.compare.comparison import verdicts as compared


def as_text(comparison: Comparison | AxisComparison) -> str:
    """For a terminal: the tables, what else changed, the verdict in the last line."""
    return terminal_text(_parts(comparison))


def as_markdown(comparison: Comparison | AxisComparison) -> str:
    """As Markdown, for a merge request or an issue."""
    return markdown_text(_parts(comparison))


def as_json(comparison: Comparison | AxisComparison) -> str:
    """Everything, for programs."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode()


def conclusion(comparison: Comparison) -> list[str]:
    """The two runs, the verdict, and the next step, if there is one."""
    step = next_step(compared(comparison))
    sides = [f"A {comparison.a}", f"B {comparison.b}"]
    return [*sides, sentence(comparison), *([step] if step else [])]


def next_step(verdicts: Sequence[Verdict]) -> str:
    """The hint of the first failed or inconclusive verdict; empty if all passed."""
    for outcome in ("fail", "inconclusive"):
        for verdict in verdicts:
            if verdict.outcome == outcome and verdict.hint:
                return f"next: {verdict.subject}: {verdict.hint}"
    return ""


def sentence(comparison: Comparison | AxisComparison) -> str:
    """The verdict and its reasons."""
    if isinstance(comparison, AxisComparison):
        clauses = _axis_clauses(comparison)
    else:
        clauses = _run_clauses(comparison)
    return f"{comparison.outcome.upper()}: {'; '.join(clauses)}"


def _parts(comparison: Comparison | AxisComparison) -> Iterator[Part]:
    if isinstance(comparison, AxisComparison):
        yield from _axis_tables(comparison)
    else:
        yield from _run_tables(comparison)
    yield from (Prose(f"note: {note}") for note in comparison.notes)
    yield Prose(sentence(comparison))


# Two runs


def _run_tables(comparison: Comparison) -> Iterator[Part]:
    yield f"A {comparison.a}\nB {comparison.b}"
    if comparison.variants:
        yield Title(_title(comparison))
        yield _ratios(comparison.variants, "case")
        yield comparison.intervals
    if comparison.machine:
        limit = f"threshold {comparison.machine_threshold:g}×"
        yield Title(f"The machine: raw calibration time, B ÷ A ({limit})")
        yield _ratios(comparison.machine, "device")
    if comparison.changes:
        yield Title("Other differences")
        frame = pd.DataFrame(msgspec.to_builtins(comparison.changes))
        yield frame[["what", "where", "a", "b"]]
    for side, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            yield Prose(f"only in {side}: {', '.join(names)}")


def _title(comparison: Comparison) -> str:
    if comparison.figures == "raw":
        return f"Code and software: raw time, B ÷ A (threshold {comparison.machine_threshold:g}×)"
    limit = f"threshold {comparison.threshold * 100:g}%"
    return f"Code and settings: normalized time, lower is faster, B ÷ A ({limit}; Holm-corrected)"


def ratios(comparison: Comparison) -> pd.DataFrame:
    """Every case, and the calibration workload of each device."""
    return _ratios([*comparison.variants, *comparison.machine], "case or device")


def _ratios(rows: Sequence[Ratio], subject: str) -> pd.DataFrame:
    return frame_of(
        [{subject: row.subject, **ratio_cells("B ÷ A", row), "note": row.note} for row in rows]
    )


def ratio_cells(name: str, ratio: Ratio) -> TableRow:
    """A judged ratio as cells of a table."""
    return {
        name: ratio.figure,
        "p": None if ratio.p is None else f"{ratio.p:.2g}",
        "processes": ratio.processes,
        "verdict": ratio.verdict,
    }


def _run_clauses(comparison: Comparison) -> list[str]:
    counts = [f"not finished by B: {', '.join(comparison.lost)}"] if comparison.lost else []
    counts += _untimed(comparison)
    counts += _by_verdict(comparison.variants)
    paces = [f"{row.subject} {row.verdict}" for row in comparison.machine]
    machine = [f"the machine: {', '.join(paces)}"] if paces else []
    if any(row.verdict == "slower" for row in comparison.machine):
        return [*machine, *counts]
    return [*counts, *machine] if counts else ["nothing to compare"]


def _untimed(comparison: Comparison | AxisComparison) -> list[str]:
    names = ", ".join(comparison.untimed)
    return [f"invalid times: {names}"] if names else []


def _by_verdict(rows: Sequence[Ratio]) -> list[str]:
    """The variants of each verdict: names, or a number for `same`."""
    named: dict[str, list[str]] = {"slower": [], "faster": [], "same": [], "inconclusive": []}
    for row in rows:
        named[row.verdict].append(row.subject)
    return [
        f"{len(names)} same" if verdict == "same" else f"{verdict}: {', '.join(names)}"
        for verdict, names in named.items()
        if names
    ]


# One run along an axis


def _axis_tables(comparison: AxisComparison) -> Iterator[Part]:
    yield f"run {comparison.run}"
    if comparison.pairs:
        limit = f"threshold {comparison.threshold * 100:g}%; Holm-corrected"
        yield Title(f"{comparison.setting}: epoch time, to ÷ from ({limit})")
        yield frame_of([_pair_row(pair) for pair in comparison.pairs])


def _pair_row(pair: AxisPair) -> TableRow:
    return {
        "from": pair.value_a,
        "to": pair.value_b,
        **ratio_cells("to ÷ from", pair.speed),
        "bits": pair.seen,
        "expected bits": pair.bits,
        "first case": pair.a,
        "note": pair.speed.note,
    }


def _axis_clauses(comparison: AxisComparison) -> list[str]:
    """The speeds, then the bits."""
    pairs = comparison.pairs
    clauses = [f"not finished: {', '.join(comparison.lost)}"] if comparison.lost else []
    clauses += _untimed(comparison)
    clauses += _by_verdict([pair.speed for pair in pairs])
    broken = [f"bits of {pair.b}: {pair.seen}, {pair.bits}" for pair in pairs if pair.broken]
    return clauses + (broken or ([_bits_in_all(pairs)] if pairs else []))


def _bits_in_all(pairs: Sequence[AxisPair]) -> str:
    diverged = sum(pair.diverged_epoch is not None for pair in pairs)
    return f"bits diverge in {diverged} of {len(pairs)}" if diverged else "bits identical"


def costs_frame(costs: Sequence[Cost]) -> pd.DataFrame:
    """Ratios along the axes of one run, one row per change of a setting."""
    rows = [
        {
            "setting": cost.setting,
            "from": cost.before,
            "to": cost.after,
            "time ÷": cost.ratio.figure,
            "processes": cost.ratio.processes,
            "pairs": cost.pairs,
            "lowest": cost.lowest,
            "highest": cost.highest,
            "example": cost.example,
        }
        for cost in costs
    ]
    columns = ["setting", "from", "to", *figure_columns("time ÷")]
    return frame_of(rows, [*columns, "processes", "pairs", "lowest", "highest", "example"])
