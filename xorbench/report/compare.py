"""A comparison as text, as Markdown and for programs."""

from collections.abc import Callable, Sequence

import msgspec
import pandas as pd

from xorbench.judge.by_axis import AxisComparison, AxisPair
from xorbench.judge.compare import Comparison, VariantRatio
from xorbench.judge.compare import verdicts as compared
from xorbench.judge.paired_ratios import Cost
from xorbench.judge.verdicts import Verdict
from xorbench.report.text import escape, to_markdown, to_terminal

TableText = Callable[[pd.DataFrame], str]


def as_text(found: Comparison) -> str:
    """For a terminal: the tables, what else changed, the verdict in the last line."""
    return _whole(found, to_terminal, "")


def conclusion(found: Comparison) -> list[str]:
    """The two runs, the verdict, and the next step, if there is one."""
    step = next_step(compared(found))
    return [f"A {found.a}", f"B {found.b}", sentence(found), *([step] if step else [])]


def next_step(verdicts: Sequence[Verdict]) -> str:
    """What to do, of the first that failed or is open; empty where all passed."""
    for outcome in ("fail", "inconclusive"):
        for verdict in verdicts:
            if verdict.outcome == outcome and verdict.hint:
                return f"next: {verdict.subject}: {verdict.hint}"
    return ""


def as_markdown(found: Comparison) -> str:
    """The same for a merge request or an issue."""
    return _whole(found, to_markdown, "## ", escape) + "\n"


def as_json(found: Comparison | AxisComparison) -> str:
    """Everything, for programs."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def _whole(
    found: Comparison, table: TableText, mark: str, plain: Callable[[str], str] = str
) -> str:
    parts = [f"A {found.a}\nB {found.b}"]
    if found.variants:
        parts += [f"{mark}{_title(found)}", table(_ratios(found.variants, "case"))]
        parts += [found.intervals] if found.intervals else []
    if found.machine:
        asked = f"slower than {found.machine_threshold:g} times fails"
        parts += [f"{mark}The machine: raw calibration time, B ÷ A ({asked})"]
        parts += [table(_ratios(found.machine, "device"))]
    if found.changes:
        frame = pd.DataFrame(msgspec.to_builtins(found.changes))
        parts += [f"{mark}What else is not the same", table(frame[["what", "where", "a", "b"]])]
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            parts.append(plain(f"only in {side}: {', '.join(names)}"))
    parts += [plain(f"note: {note}") for note in found.notes]
    return "\n\n".join([*parts, plain(sentence(found))])


def _title(found: Comparison) -> str:
    if found.figures == "raw":
        return f"Code and software: raw time, B ÷ A (threshold {found.machine_threshold:g}×)"
    asked = f"threshold {found.threshold * 100:g}%"
    return (
        f"Code and settings: normalized time, lower is faster, B ÷ A ({asked}; intervals by Holm)"
    )


def ratios(found: Comparison) -> pd.DataFrame:
    """Every case, and the calibration workload of each device."""
    return _ratios([*found.variants, *found.machine], "case or device")


def _ratios(rows: Sequence[VariantRatio], what: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                what: row.subject,
                "B ÷ A": row.ratio,
                "B ÷ A low": row.low,
                "B ÷ A high": row.high,
                "p": None if row.p is None else f"{row.p:.2g}",
                "processes": row.processes,
                "verdict": row.verdict,
                "note": row.note,
            }
            for row in rows
        ]
    )


def sentence(found: Comparison) -> str:
    """The verdict, and what it rests on."""
    counts = [f"lost by B: {', '.join(found.lost)}"] if found.lost else []
    counts += _untimed(found)
    counts += _by_verdict(found.variants)
    paces = [f"{row.subject} {row.verdict}" for row in found.machine]
    machine = [f"the machine: {', '.join(paces)}"] if paces else []
    said = [*counts, *machine] if counts else ["nothing to compare"]
    if any(row.verdict == "slower" for row in found.machine):
        said = [*machine, *counts]
    return f"{found.outcome.upper()}: {'; '.join(said)}"


def _untimed(found: Comparison | AxisComparison) -> list[str]:
    return [f"no time can be believed: {', '.join(found.untimed)}"] if found.untimed else []


def _by_verdict(rows: Sequence[VariantRatio]) -> list[str]:
    """The variants of each verdict by name, those that are the same as a number."""
    named: dict[str, list[str]] = {"slower": [], "faster": [], "same": [], "inconclusive": []}
    for row in rows:
        named[row.verdict].append(row.subject)
    return [
        f"{len(names)} same" if verdict == "same" else f"{verdict}: {', '.join(names)}"
        for verdict, names in named.items()
        if names
    ]


def costs_frame(costs: Sequence[Cost]) -> pd.DataFrame:
    """Ratios along the axes of one run, one row a change of a setting."""
    return pd.DataFrame(
        [
            {
                "setting": cost.axis.name,
                "from": cost.before,
                "to": cost.after,
                "time ÷": cost.ratio.value,
                "time ÷ low": cost.ratio.low,
                "time ÷ high": cost.ratio.high,
                "processes": cost.ratio.processes,
                "pairs": cost.pairs,
                "lowest": cost.lowest,
                "highest": cost.highest,
                "example": cost.example,
            }
            for cost in costs
        ],
        columns=[
            "setting", "from", "to", "time ÷", "time ÷ low", "time ÷ high", "processes", "pairs",
            "lowest", "highest", "example",
        ],
    )  # fmt: skip


def by_text(found: AxisComparison) -> str:
    """`compare RUN --by AXIS` for a terminal: the pairs, the answer in the last line."""
    return _by_whole(found, to_terminal, "")


def by_markdown(found: AxisComparison) -> str:
    """The same as Markdown."""
    return _by_whole(found, to_markdown, "## ", escape) + "\n"


def _by_whole(
    found: AxisComparison, table: TableText, mark: str, plain: Callable[[str], str] = str
) -> str:
    asked = f"threshold {found.threshold * 100:g}%; intervals by Holm"
    parts = [f"run {found.run}"]
    if found.pairs:
        parts += [f"{mark}{found.setting}: epoch time, to ÷ from ({asked})"]
        parts += [table(_by_frame(found.pairs))]
    parts += [plain(f"note: {note}") for note in found.notes]
    return "\n\n".join([*parts, plain(by_sentence(found))])


def _by_frame(pairs: Sequence[AxisPair]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "from": pair.value_a,
                "to": pair.value_b,
                "to ÷ from": pair.speed.ratio,
                "to ÷ from low": pair.speed.low,
                "to ÷ from high": pair.speed.high,
                "p": None if pair.speed.p is None else f"{pair.speed.p:.2g}",
                "processes": pair.speed.processes,
                "verdict": pair.speed.verdict,
                "bits": _bits(pair),
                "expected bits": pair.bits,
                "first case": pair.a,
                "note": pair.speed.note,
            }
            for pair in pairs
        ]
    )


def _bits(pair: AxisPair) -> str:
    if pair.diverged_epoch is None:
        return "equal"
    return f"diverge at epoch {pair.diverged_epoch}"


def by_sentence(found: AxisComparison) -> str:
    """The verdict, and what it rests on: the speeds, then the bits."""
    said = [f"lost: {', '.join(found.lost)}"] if found.lost else []
    said += _untimed(found)
    said += _by_verdict([pair.speed for pair in found.pairs])
    said += [f"bits of {pair.b}: {_bits(pair)}, {pair.bits}" for pair in found.pairs if pair.broken]
    if found.pairs and not any(pair.broken for pair in found.pairs):
        said.append(_bits_in_all(found.pairs))
    return f"{found.outcome.upper()}: {'; '.join(said)}"


def _bits_in_all(pairs: Sequence[AxisPair]) -> str:
    diverged = sum(pair.diverged_epoch is not None for pair in pairs)
    return f"bits diverge in {diverged} of {len(pairs)}" if diverged else "bits equal"
