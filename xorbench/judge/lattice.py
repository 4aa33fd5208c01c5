"""The lattice: what changing each setting must do to the bits, held against what it did."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from xorbench.judge.evidence import Evidence, first_difference
from xorbench.judge.float64_error import distance_ulps, weights_after
from xorbench.plan.axes import AXES, Axis, Bits, Expectation
from xorbench.plan.case import Subject
from xorbench.plan.matrix import edges


@dataclass(frozen=True, slots=True)
class Pair:
    """Two subjects that differ in one setting alone: what that must do, and where they parted."""

    axis: Axis
    a: Subject
    b: Subject
    expectation: Expectation
    parted: int | None

    @property
    def broken(self) -> bool:
        """Whether it did what it must not."""
        return self.expectation.bits == ("change" if self.parted is None else "keep")


@dataclass(frozen=True, slots=True)
class Row:
    """All pairs of one setting with one expectation."""

    setting: str
    must: str
    reason: str
    seen: str
    pairs: int
    outcome: Literal["pass", "fail", "not exercised", "free"]


def pair(axis: Axis, a: Subject, b: Subject, evidence: Evidence) -> Pair:
    """Hold two subjects against the axes table."""
    expectation = axis.bits(a, b)
    tape = evidence.first(a).tape
    if expectation.bits == "change" and len(tape) > 1 and len(set(tape)) == 1:
        expectation = Expectation("may change", "no step was large enough to move a weight")
    return Pair(axis, a, b, expectation, first_difference(tape, evidence.first(b).tape))


def pairs(axis: Axis, members: list[Subject], evidence: Evidence) -> list[Pair]:
    """Every two of a group of subjects that differ in this setting alone."""
    return [pair(axis, a, b, evidence) for a, b in combinations(members, 2)]


def must(bits: Bits) -> str:
    """The expectation in words."""
    return bits if bits == "may change" else f"must {bits}"


def lattice(evidence: Evidence) -> Iterator[Row]:
    """A row for each setting and expectation; every setting has one, exercised or not."""
    found: dict[str, list[Pair]] = {axis.name: [] for axis in AXES}
    for axis, members in edges(evidence.subjects):
        found[axis.name] += pairs(axis, members, evidence)
    for axis in AXES:
        if found[axis.name]:
            yield from _rows(found[axis.name], evidence)
        elif evidence.planned:
            expected = axis.bits(evidence.planned[0], evidence.planned[0])
            yield Row(
                axis.name, must(expected.bits), expected.reason, "not exercised", 0, "not exercised"
            )


def _rows(found: list[Pair], evidence: Evidence) -> Iterator[Row]:
    grouped: dict[Expectation, list[Pair]] = {}
    for one in found:
        grouped.setdefault(one.expectation, []).append(one)
    for expectation, same in grouped.items():
        free = expectation.bits == "may change"
        broken = any(one.broken for one in same)
        outcome: Literal["fail", "free", "pass"] = "fail" if broken else "free" if free else "pass"
        seen = _seen(same, evidence)
        yield Row(
            same[0].axis.name, must(expectation.bits), expectation.reason, seen, len(same), outcome
        )


def _seen(same: list[Pair], evidence: Evidence) -> str:
    """Kept, or changed: from which epoch, and by how many ulps there."""
    counts = Counter(one.parted is None for one in same)
    said = ["kept" if len(counts) == 1 else f"kept in {counts[True]}"] if counts[True] else []
    changed = [one for one in same if one.parted is not None]
    if changed:
        first = min(changed, key=lambda one: one.parted or 0)
        where = f"changed at epoch {first.parted}{_by(first, evidence)}"
        said.append(where if len(counts) == 1 else f"{where} in {counts[False]}")
    return ", ".join(said)


def _by(one: Pair, evidence: Evidence) -> str:
    a, b = (weights_after(evidence, evidence.first(side)) for side in (one.a, one.b))
    if one.parted is None or not a or not b:
        return ""
    ulps = distance_ulps(a[one.parted], b[one.parted])
    return " to what is not a number" if ulps is None else f" by {ulps:,} ulps"
