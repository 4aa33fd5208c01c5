"""A check: its statement, its function and its texts in one object."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from xorbench.answers import CORRECT
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Check:
    """A check of every run.

    Attributes:
        name: its name in reports and in `verdicts.json`.
        passes_when: the checked statement.
        judge: function from its name and the evidence to one verdict per subject: a variant, a
            process, a device or a seed.
        hint: what to do after a failure, unless the verdict has its own hint.
        question: the one of the three questions that it belongs to.
        needs: properties that a run needs to be judged; empty if every run has them.
    """

    name: str
    passes_when: str
    judge: Callable[[str, Evidence], Iterable[Verdict]]
    hint: str
    question: str = CORRECT
    needs: str = ""

    def verdicts(self, evidence: Evidence) -> Iterator[Verdict]:
        """The verdict on each subject of a run; every failure has a hint."""
        for verdict in self.judge(self.name, evidence):
            lacks_hint = verdict.outcome == "fail" and not verdict.hint
            yield replace(verdict, hint=self.hint) if lacks_hint else verdict
