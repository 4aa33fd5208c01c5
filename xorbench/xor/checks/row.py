"""What a check is: one object that holds all there is to know of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from xorbench.answers import CORRECT
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is checked of every run.

    Attributes:
        name: as it stands in reports and in `verdicts.json`.
        passes_when: the statement that it checks.
        judge: the function from its name and the evidence to a verdict for each subject: a variant,
            a process, a device, a seed.
        hint: what to do where it fails, unless the verdict itself says more.
        question: which of the three questions it belongs to.
        needs: what a run must have for it to say anything; empty where every run has it.
    """

    name: str
    passes_when: str
    judge: Callable[[str, Evidence], Iterable[Verdict]]
    hint: str
    question: str = CORRECT
    needs: str = ""

    def verdicts(self, evidence: Evidence) -> Iterator[Verdict]:
        """What it says of each subject of a run; no failure without a hint."""
        for verdict in self.judge(self.name, evidence):
            bare = verdict.outcome == "fail" and not verdict.hint
            yield replace(verdict, hint=self.hint) if bare else verdict
