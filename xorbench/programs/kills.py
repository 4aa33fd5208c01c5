"""The kills of `check --resume`: after a number of steps, or within a save.

A kill within a save leaves an incomplete checkpoint. The training must then resume from a complete
one: the older checkpoint, unless the save overwrote it.
"""

from dataclasses import dataclass
from typing import Any, Final

from xorbench.programs.conclusion import Conclusion
from xorbench.programs.resumed_run import ResumeRecord, StepRecord, renamed_as
from xorbench.records.ended import Ended
from xorbench.records.trace import PresenceLine
from xorbench.verdicts import counted

# The places of `recorder.interrupted_save`, which only the process of a training imports.
PART, BETWEEN, SECOND, RENAME = "part", "between", "second", "rename"
DIED: Final = "died_in_save"  # the event in the records
# The places of a kill within a save: the text of the kill, and why a program has no such place.
SAVE_KILLS: Final = {
    PART: (
        "killed while it saved a file",
        "fewer than two checkpoints were saved by torch.save, safetensors or"
        " torch.distributed.checkpoint after the first step",
    ),
    BETWEEN: ("killed between two files of a checkpoint", "each checkpoint is one file"),
    SECOND: (
        "killed while it saved the second file of a checkpoint",
        "each checkpoint is one file",
    ),
    RENAME: ("killed before it renamed a saved file", "no saved file is renamed"),
}
NEEDED_PLACES: Final = {
    BETWEEN: PART,
    SECOND: BETWEEN,
    RENAME: PART,
}  # a place exists only with the other
MIXED: Final = "mixed checkpoint"
CHECKPOINT: Final = "checkpoint"
# The state that shows which checkpoint was loaded, by the kind of its events.
LOADED: Final = {
    "parameter": "weights",
    "state": "optimizer state",
    "buffer": "buffers",
    "batch": "batch",
    "generator": "generators",
}
MORE_CHECKPOINTS: Final = "save more often, or train longer"
ATOMIC: Final = (
    "write to a temporary file, and replace the old checkpoint with os.replace when it is complete"
)
ONE_FILE: Final = (
    "save all state in one file; or save each checkpoint to its own folder, write a marker file"
    " last, and load only checkpoints that have it"
)
OLDER: Final = "if a checkpoint cannot be read, load the one before; or " + ATOMIC


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill after a number of complete steps, or at a place within a save."""

    steps: int | None = None
    place: str = ""

    @property
    def name(self) -> str:
        """The end of the names of the folders of its runs."""
        return f"in-save-{self.place}" if self.place else f"after-{self.steps}"

    @property
    def key(self) -> str:
        """The entry for its files in `check.json`."""
        return self.place or str(self.steps)

    @property
    def label(self) -> str:
        """The kill in a few words."""
        return self.text if self.place else f"killed after {self.steps}"

    @property
    def text(self) -> str:
        """The kill as the start of a sentence."""
        if self.place:
            return SAVE_KILLS[self.place][0]
        return f"killed after {counted(self.steps or 0, 'step')}"

    @property
    def options(self) -> dict[str, Any]:
        """The options of the recorder for the killed run."""
        if self.place:
            return {"die_in_save": self.place}
        return {"stop_after": self.steps, "kill": True}


def absence(kill: Kill, killed: Ended) -> str:
    """Why a run was not killed within a save; empty if it was, or if it failed on its own."""
    completed = killed.how == "stopped" or (killed.how == "ended" and killed.code == 0)
    if not kill.place or not completed or killed.lost_records or killed.events(DIED):
        return ""
    return SAVE_KILLS[kill.place][1]


def death_of(killed: Ended) -> PresenceLine | None:
    """The event of the process that died within a save."""
    return next(iter(killed.events(DIED)), None)


def not_applicable(kill: Kill, reason: str) -> Conclusion:
    """The conclusion for a place that no save has; inconclusive without any save."""
    if kill.place in NEEDED_PLACES:
        return Conclusion("skipped", f"not applicable: {reason}")
    return Conclusion("inconclusive", f"no save was interrupted: {reason}", hint=MORE_CHECKPOINTS)


def refused(kill: Kill, death: PresenceLine, last: str) -> Conclusion:
    """The conclusion if the resume command failed after a kill within a save."""
    name, older = death.file.name, death.older_step
    if death.older_is_complete:
        finding = (
            f"the resume command failed, although the checkpoint saved after"
            f" {counted(older, 'step')} is complete: {last}"
        )
        hint = OLDER
    else:
        verb = "deleted" if kill.place == RENAME else "overwrote"
        finding = f"the save of {name} {verb} the only checkpoint, and resuming failed: {last}"
        hint = ATOMIC
    return Conclusion("fail", finding, CHECKPOINT, "Nothing was restored.", hint)


def mixed(text: str) -> Conclusion:
    """The conclusion if the resumed run loaded parts of two checkpoints."""
    meaning = "The resumed training loaded parts of two checkpoints."
    return Conclusion("fail", text, MIXED, meaning, ONE_FILE)


def mixed_text(
    whole: ResumeRecord, resumed: ResumeRecord, newer: int, older: int, *, later_weights: bool
) -> str:
    """The state from the newer and from the older checkpoint, if it resumed with parts of both.

    `newer` and `older` are the steps of the two checkpoints in the uninterrupted run. With
    `later_weights` the resumed run has weights from after its last step.
    """
    if newer >= len(whole.steps):
        late = f"weights saved after all {newer} steps, and an earlier step to continue at"
        return f"the checkpoint mixes two saves: {late}" if later_weights else ""
    start = renamed_as(whole, resumed).steps[0]
    a, b = whole.steps[newer], whole.steps[older]
    ours, theirs = _restored(start, a, b), _restored(start, b, a)
    if not ours or not theirs:
        return ""
    return (
        f"the checkpoint mixes two saves: {_listed(ours)} of step {newer},"
        f" {_listed(theirs)} of step {older}"
    )


def _restored(start: StepRecord, step: StepRecord, other: StepRecord) -> list[str]:
    """The kinds of state with a tensor that is identical to that of `step` and not of `other`."""
    kinds = []
    for kind, name in LOADED.items():
        actual, expected, different = (s.digests(kind) for s in (start, step, other))
        if any(expected.get(k) == v != different.get(k) for k, v in actual.items()):
            kinds.append(name)
    return kinds


def _listed(kinds: list[str]) -> str:
    return " and ".join([", ".join(kinds[:-1]), kinds[-1]] if kinds[1:] else kinds)
