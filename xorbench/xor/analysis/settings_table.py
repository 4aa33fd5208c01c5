"""The settings table: the required and the observed effect of each setting on the bits."""

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
    """Two variants that differ in one setting: the expectation, and the first divergence."""

    axis: Axis
    a: Variant
    b: Variant
    expectation: Expectation
    diverged: int | None

    @property
    def broken(self) -> bool:
        """Whether the expectation is violated."""
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
    """Compare two variants with the expectation of the axis."""
    expectation = axis.bits(a, b)
    if axis.name == "device" and (model := evidence.common_model(a.case.device, b.case.device)):
        expectation = Expectation("keep", f"both are {model}, with identical arithmetic")
    if reordering(a.case) or reordering(b.case):
        expectation = ANY_ORDER
    epoch_digests = evidence.first(a).epoch_digests
    if expectation.bits == "change" and len(epoch_digests) > 1 and len(set(epoch_digests)) == 1:
        expectation = Expectation("may change", "no step was large enough to change a weight")
    return Pair(
        axis, a, b, expectation, first_difference(epoch_digests, evidence.first(b).epoch_digests)
    )


def pairs(axis: Axis, members: list[Variant], evidence: Evidence) -> list[Pair]:
    """All pairs of a group of variants that differ in this setting only."""
    return [pair(axis, a, b, evidence) for a, b in combinations(members, 2)]


def must(bits: BitChange) -> str:
    """The expectation as text."""
    return bits if bits == "may change" else f"must {bits}"


def settings_table(evidence: Evidence) -> Iterator[SettingsRow]:
    """One row per setting and expectation; every setting has a row, varied or not."""
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
    for expectation, matching in grouped.items():
        free = expectation.bits == "may change"
        broken = any(pair.broken for pair in matching)
        outcome: Literal["pass", "fail", "no requirement"] = (
            "fail" if broken else "no requirement" if free else "pass"
        )
        seen = _seen(matching, evidence)
        yield SettingsRow(
            matching[0].axis.name,
            must(expectation.bits),
            expectation.reason,
            seen,
            len(matching),
            outcome,
        )


def _seen(matching: list[Pair], evidence: Evidence) -> str:
    """Kept, or changed: from which epoch, and by how many ulps there."""
    counts = Counter(pair.diverged is None for pair in matching)
    clauses = ["kept" if len(counts) == 1 else f"kept in {counts[True]}"] if counts[True] else []
    changed = [pair for pair in matching if pair.diverged is not None]
    if changed:
        first = min(changed, key=lambda pair: pair.diverged or 0)
        where = f"changed at epoch {first.diverged}{_ulps_text(first, evidence)}"
        clauses.append(where if len(counts) == 1 else f"{where} in {counts[False]}")
    return ", ".join(clauses)


def _ulps_text(first: Pair, evidence: Evidence) -> str:
    a, b = (weights_after(evidence, evidence.first(side)) for side in (first.a, first.b))
    if first.diverged is None or not a or not b:
        return ""
    ulps = distance_ulps(a[first.diverged], b[first.diverged])
    return " to a value that is not finite" if ulps is None else f" by {ulps:,} ulps"
