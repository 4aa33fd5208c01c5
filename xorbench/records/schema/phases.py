"""The times of the phases of an epoch, from a separate pass. Times are seconds."""

from typing import Annotated

from msgspec import Meta, Struct

from xorbench.records.schema.line import Line, Sha256
from xorbench.records.schema.training import PositiveSeconds
from xorbench.xor.matrix.phases import PHASES

SlotSeconds = list[Annotated[float, Meta(ge=0, lt=1e9)]]


class PhaseTimes(Struct, frozen=True, kw_only=True):
    """One marked epoch: its time, and the time of each phase, by slot.

    A slot is one step or several consecutive steps; the last slot is the time after the last step.
    """

    epoch_s: PositiveSeconds
    data_s: SlotSeconds
    copy_s: SlotSeconds
    forward_s: SlotSeconds
    backward_s: SlotSeconds
    optimizer_s: SlotSeconds

    def phases(self) -> list[list[float]]:
        """The slots of each phase, in the order of `PHASES`."""
        return [getattr(self, f"{phase}_s") for phase in PHASES]


class PhasesLine(Line, frozen=True, kw_only=True):
    """A line of `phases.jsonl`: the pass over one case in one process.

    Attributes:
        marked: the epochs with marks between their phases.
        unmarked_epoch_s: the epochs without marks; the first is a warm-up epoch.
        digests: of the weights after each epoch of the pass.
        batches: the number of batches from the loader in the marked epochs.
        pinned: how many of them were in page-locked memory; null if not requested, or without an
            accelerator.
        failed: the reason for missing times; empty if there are times.
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
        whole = self.marked and len(self.unmarked_epoch_s) > 1 and len(self.digests) == epochs
        if not self.failed and not whole:
            raise ValueError("marked, unmarked_epoch_s and digests are inconsistent")
        if len({len(slots) for epoch in self.marked for slots in epoch.phases()}) > 1:
            raise ValueError("the phases differ in length")
        if self.pinned is not None and not 0 <= self.pinned <= self.batches:
            raise ValueError(f"{self.pinned} of {self.batches} batches are pinned")
