"""The three questions about every run, and the form of an answer."""

from dataclasses import dataclass
from typing import Final

from xorbench.verdicts import Outcome

CORRECT: Final = "Is it correct?"
IDENTICAL: Final = "Is it bitwise identical?"
ROUNDING: Final = "Is it the same up to rounding?"
FAST: Final = "Is it as fast as expected?"

WORDS: Final[dict[Outcome, str]] = {
    "pass": "Yes",
    "fail": "No",
    "inconclusive": "Inconclusive",
    "skipped": "Not judged",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question: its outcome and a sentence."""

    question: str
    outcome: Outcome
    sentence: str

    @property
    def word(self) -> str:
        """The outcome as a word, such as yes or no."""
        return WORDS[self.outcome]
