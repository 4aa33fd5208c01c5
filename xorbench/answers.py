"""The three questions that every run is asked, and the form of an answer."""

from dataclasses import dataclass
from typing import Final

from xorbench.verdicts import Outcome

RIGHT: Final = "Does it train right?"
SAME: Final = "Does it train the same?"
FAST: Final = "Does it train as fast as it should?"

WORDS: Final[dict[Outcome, str]] = {
    "pass": "Yes",
    "fail": "No",
    "inconclusive": "Not settled",
    "skipped": "Not judged",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One question, its outcome, and the sentence that explains it."""

    question: str
    outcome: Outcome
    sentence: str

    @property
    def word(self) -> str:
        """Yes, no, or why neither."""
        return WORDS[self.outcome]
