"""The settings table: what changing each setting must do to the bits, compared with what it did."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from xorbench.state_digest import first_difference
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.float64_error import distance_ulps, weights_after
from xorbench.xor.matrix.axes import ANY_ORDER, AXES, Axis, BitChange, Expectation, reordering
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.matrix import edges


@dataclass(frozen=True, slots=True)
class Pair:
    """Two variants that differ in one setting alone: what that must do, and where they diverged."""

    axis: Axis
    a: Variant
    b: Variant
    expectation: Expectation
    diverged: int | None

    @property
    def broken(self) -> bool:
        """Whether it did what it must not."""
        return self.expectation.bits == ("change" if self.diverged is None else "keep")


@dataclass(frozen=True, slots=True)
class SettingsRow:
    """All pairs of one setting with one expectation."""

    setting: str
    must: str
    reason: str
    seen: str
    pairs: int
    outcome: Literal["pass", "fail", "not varied in this run", "no requirement"]


def pair(axis: Axis, a: Variant, b: Variant, evidence: Evidence) -> Pair:
    """Compare two variants with what the axis expects."""
    expectation = axis.bits(a, b)
    if axis.name == "device" and (model := evidence.common_model(a.case.device, b.case.device)):
        expectation = Expectation("keep", f"both are {model}: one kind of device, one arithmetic")
    if reordering(a.case) or reordering(b.case):
        expectation = ANY_ORDER
    epoch_digests = evidence.first(a).epoch_digests
    if expectation.bits == "change" and len(epoch_digests) > 1 and len(set(epoch_digests)) == 1:
        expectation = Expectation("may change", "no step was large enough to move a weight")
    return Pair(
        axis, a, b, expectation, first_difference(epoch_digests, evidence.first(b).epoch_digests)
    )


def pairs(axis: Axis, members: list[Variant], evidence: Evidence) -> list[Pair]:
    """Every two of a group of variants that differ in this setting alone."""
    return [pair(axis, a, b, evidence) for a, b in combinations(members, 2)]


def must(bits: BitChange) -> str:
    """The expectation in words."""
    return bits if bits == "may change" else f"must {bits}"


def settings_table(evidence: Evidence) -> Iterator[SettingsRow]:
    """A row for each setting and expectation; every setting has one, varied or not."""
    pairs_by_axis: dict[str, list[Pair]] = {axis.name: [] for axis in AXES}
    for axis, members in edges(evidence.variants):
        pairs_by_axis[axis.name] += pairs(axis, members, evidence)
    for axis in AXES:
        if pairs_by_axis[axis.name]:
            yield from _rows(pairs_by_axis[axis.name], evidence)
        elif evidence.planned:
            expected = axis.bits(evidence.planned[0], evidence.planned[0])
            yield SettingsRow(
                axis.name,
                must(expected.bits),
                expected.reason,
                "not varied in this run",
                0,
                "not varied in this run",
            )


def _rows(axis_pairs: list[Pair], evidence: Evidence) -> Iterator[SettingsRow]:
    grouped: dict[Expectation, list[Pair]] = {}
    for pair in axis_pairs:
        grouped.setdefault(pair.expectation, []).append(pair)
    for expectation, same in grouped.items():
        free = expectation.bits == "may change"
        broken = any(pair.broken for pair in same)
        outcome: Literal["pass", "fail", "no requirement"] = (
            "fail" if broken else "no requirement" if free else "pass"
        )
        seen = _seen(same, evidence)
        yield SettingsRow(
            same[0].axis.name, must(expectation.bits), expectation.reason, seen, len(same), outcome
        )


def _seen(same: list[Pair], evidence: Evidence) -> str:
    """Kept, or changed: from which epoch, and by how many ulps there."""
    counts = Counter(pair.diverged is None for pair in same)
    clauses = ["kept" if len(counts) == 1 else f"kept in {counts[True]}"] if counts[True] else []
    changed = [pair for pair in same if pair.diverged is not None]
    if changed:
        first = min(changed, key=lambda pair: pair.diverged or 0)
        where = f"changed at epoch {first.diverged}{_by(first, evidence)}"
        clauses.append(where if len(counts) == 1 else f"{where} in {counts[False]}")
    return ", ".join(clauses)


def _by(first: Pair, evidence: Evidence) -> str:
    a, b = (weights_after(evidence, evidence.first(side)) for side in (first.a, first.b))
    if first.diverged is None or not a or not b:
        return ""
    ulps = distance_ulps(a[first.diverged], b[first.diverged])
    return " to what is not a number" if ulps is None else f" by {ulps:,} ulps"
