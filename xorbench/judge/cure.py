"""How many equal pairs are evidence, and the result of a search for a cure.

A training whose pairs of runs diverge with probability p gives n equal pairs with probability
(1 - p)^n. A set of switches counts as a cure after so many that this is at most 1%.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from xorbench.judge.against import BITS, StepSpeed
from xorbench.judge.check import CHECK, Conclusion
from xorbench.judge.explain import Explanation, Gives
from xorbench.judge.verdicts import Verdict, counted

ERROR: Final = 0.01  # of calling a set a cure that is none
SUREST: Final = 0.9  # p is never taken for more: so few runs do not show it


def pairs_needed(share: float) -> int:
    """How many equal pairs are evidence, where this share of pairs diverges."""
    p = min(share, SUREST)
    return max(1, math.ceil(math.log(ERROR) / math.log1p(-p) - 1e-9))


def share_of_pairs(kinds: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """How many pairs of runs differ, and of how many; runs of one kind have equal bits.

    `kinds` are those of each command's runs: of one command its runs are paired with each other,
    of two each run of the one with each of the other.
    """
    sides = list(kinds.values())
    if len(sides) == 1:
        pairs = list(combinations(sides[0], 2))
    else:
        pairs = [(a, b) for a in sides[0] for b in sides[1]]
    return sum(a != b for a, b in pairs), len(pairs)


@dataclass(frozen=True, slots=True)
class SwitchTried:
    """A switch of the search: what it sets, what to write for it, and why it was left out."""

    name: str
    about: str
    write: str
    left_out: str = ""


@dataclass(slots=True)
class CureSearch:
    """The result of a search, which may have been stopped early.

    Attributes:
        sides: how many commands there are.
        runs: how many runs were made.
        differ, pairs: how many pairs of runs diverged before anything was set, and of how many.
        first: what differs first, in words.
        same: the sentence where nothing diverged.
        switches: every switch.
        found: the search; None where it was not begun.
        exhausted: whether it was ended by the limit of runs.
        under_all: what still differs under all switches, in words.
        cost: the time of a step with the cure against without.
        notes: what should be known besides.
    """

    sides: int = 1
    runs: int = 0
    differ: int = 0
    pairs: int = 0
    first: str = ""
    same: str = ""
    switches: list[SwitchTried] = field(default_factory=list)
    found: Explanation | None = None
    exhausted: bool = False
    under_all: str = ""
    cost: StepSpeed | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of pairs that diverged."""
        return self.differ / self.pairs if self.pairs else 0.0

    @property
    def cure(self) -> tuple[str, ...] | None:
        """The switches of the cure; empty where there is none, None where that is not known."""
        if self.found is None or not self.found.minimal:
            return None
        return self.found.cause

    def result_of(self, switch: SwitchTried) -> str:
        """What the search found of a switch; empty where it does not know."""
        if switch.left_out:
            return f"left out: {switch.left_out}"
        if self.cure is None:
            return ""
        if not self.cure:
            return "no cure, with all the others either"
        return "part of the cure" if switch.name in self.cure else "not needed"


def conclude(search: CureSearch) -> Conclusion:
    """The answer in words."""
    if not search.differ and search.exhausted:
        return _open(search, [])
    if not search.differ:
        return _nothing_to_explain(search)
    facts = [("pairs that diverge", _share(search)), ("differs first", search.first)]
    if search.cure:
        return _cured(search, facts)
    if search.cure == ():
        return _none(search, facts)
    return _open(search, facts)


def verdict(search: CureSearch, answer: Conclusion) -> Verdict:
    """The answer as a verdict: on the bits of one command, or of two."""
    one = search.sides == 1
    share = f"{search.differ} of {search.pairs} pairs diverge; " if search.differ else ""
    return Verdict(
        check=CHECK if one else BITS,
        subject="the command" if one else "A and B",
        outcome=answer.outcome,
        expected="the same bits in every run" if one else "the bits of A",
        actual=f"{share}{answer.sentence}",
        hint=answer.hint,
    )


def _nothing_to_explain(search: CureSearch) -> Conclusion:
    hint = "a rarer difference needs more runs: --processes N"
    return Conclusion("pass", f"nothing to explain: {search.same}", hint=hint)


def _share(search: CureSearch) -> str:
    needed = pairs_needed(search.share)
    return (
        f"{search.differ} of {search.pairs} (p = {search.share:.2f}); a set of switches counts as a"
        f" cure after {counted(needed, 'equal pair')}"
    )


def _cured(search: CureSearch, facts: list[tuple[str, str]]) -> Conclusion:
    assert search.found is not None
    names = search.found.cause
    what = "it is the same in every run" if search.sides == 1 else "A and B have equal bits"
    needed = counted(pairs_needed(search.share), "equal pair")
    sentence = f"cured by {' + '.join(names)}: {what} ({needed}){_cost_said(search.cost)}"
    facts += _parts(search, names)
    facts += [("the other switches", _rest(search))] if search.found.rest else []
    facts += _cost(search)
    facts += _left_out(search)
    hint = "; ".join(one.write for one in search.switches if one.name in names)
    unsure = search.found.rest and search.found.rest_gives is None
    return Conclusion(
        "inconclusive" if unsure else "fail",
        sentence,
        hint=hint,
        facts=tuple(facts),
        notes=tuple(search.notes),
    )


def _cost_said(cost: StepSpeed | None) -> str:
    """The cost within the sentence."""
    if cost is None or cost.why:
        return ""
    unsettled = "not settled: " if cost.verdict == "inconclusive" else ""
    return f"; cost of a step {unsettled}{cost.figure}"


def _parts(search: CureSearch, names: Sequence[str]) -> list[tuple[str, str]]:
    of = {one.name: one for one in search.switches}
    return [(name, of[name].about) for name in names]


REST: Final[dict[Gives | None, str]] = {
    "A": "without it the others do not",
    "B": "without it the others do too, so there is another cure among them",
    "other": "without it the others do not",
    "nothing": "without it the command fails with the others",
    None: "not tried without it: --max-runs",
}


def _rest(search: CureSearch) -> str:
    assert search.found is not None
    return f"{', '.join(search.found.rest)}: {REST[search.found.rest_gives]}"


def _cost(search: CureSearch) -> list[tuple[str, str]]:
    cost = search.cost
    if cost is None:
        return []
    if cost.why:
        return [("cost", f"not measured: {cost.why}")]
    return [("cost", f"a step with it takes {cost.figure} the time of one without")]


def _left_out(search: CureSearch) -> list[tuple[str, str]]:
    told = [f"{one.name} ({one.left_out})" for one in search.switches if one.left_out]
    return [("left out", ", ".join(told))] if told else []


def _none(search: CureSearch, facts: list[tuple[str, str]]) -> Conclusion:
    tried = [one.name for one in search.switches if not one.left_out]
    what = "makes it the same" if search.sides == 1 else "gives A and B equal bits"
    sentence = f"no switch {what}: it still diverges under all that apply"
    facts += [("tried together", ", ".join(tried)), ("under all of them", search.under_all)]
    facts += _left_out(search)
    hint = (
        "what is left is in the program: the time, os.urandom, threads of its own, memory that is"
        " not filled; xorbench check says where it differs first"
    )
    if search.sides == 2:
        hint = "what is left is in the programs: xorbench check --against says where they differ"
    return Conclusion("fail", sentence, hint=hint, facts=tuple(facts), notes=tuple(search.notes))


def _open(search: CureSearch, facts: list[tuple[str, str]]) -> Conclusion:
    so_far = search.found.cause if search.found is not None else ()
    said = f"; {' + '.join(so_far)} does, and a part of it may" if so_far else ""
    sentence = f"not enough evidence after {search.runs} runs (--max-runs){said}"
    return Conclusion(
        "inconclusive",
        sentence,
        hint="allow more with --max-runs, or make a run shorter with --steps",
        facts=(*facts, *_left_out(search)),
        notes=tuple(search.notes),
    )
