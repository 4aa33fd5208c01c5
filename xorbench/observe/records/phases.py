"""Where the time of an epoch went: a pass apart from the timed epochs. Times are seconds."""

from typing import Annotated

from msgspec import Meta, Struct

from xorbench.observe.records.line import Line, Sha256
from xorbench.observe.records.training import PositiveSeconds

PhaseSeconds = Annotated[float, Meta(ge=0, lt=1e9)]


class PhaseTimes(Struct, frozen=True, kw_only=True):
    """One marked epoch: its time, and the time of each phase within it."""

    epoch_s: PositiveSeconds
    data_s: PhaseSeconds
    copy_s: PhaseSeconds
    forward_s: PhaseSeconds
    backward_s: PhaseSeconds
    optimizer_s: PhaseSeconds


class PhasesLine(Line, frozen=True, kw_only=True):
    """A line of `phases.jsonl`: the pass over one case in one process.

    Attributes:
        marked: the epochs with marks between their phases.
        unmarked_epoch_s: the epochs between them, without marks; the first is for warming up.
        digests: of the weights after each epoch of the pass, as they were trained.
        batches: how many batches the loader gave in the marked epochs.
        pinned: how many of them were in page-locked memory; null where none was asked for, or there
            is no accelerator.
        failed: why the pass has no times; empty where it has.
    """

    process: str
    case: str
    marked: list[PhaseTimes] = []
    unmarked_epoch_s: list[PositiveSeconds] = []
    digests: list[Sha256] = []
    batches: int = 0
    pinned: int | None = None
    failed: str = ""

    def __post_init__(self) -> None:
        epochs = len(self.marked) + len(self.unmarked_epoch_s)
        if not self.failed and (not self.marked or len(self.digests) != epochs):
            raise ValueError("marked, unmarked_epoch_s and digests do not fit together")
        if self.pinned is not None and not 0 <= self.pinned <= self.batches:
            raise ValueError(f"{self.pinned} of {self.batches} batches are pinned")
