"""A sweep: what was asked for, and its chunks of trained seeds."""

from typing import Any

from msgspec import Struct

from xorbench.machine.universal.sweep_plan import SweepPlan
from xorbench.records.schema.line import FolderInfo, Line, Sha256


class KnownAnswer(Struct, frozen=True, kw_only=True):
    """The golden outcome of one seed."""

    seed: int
    sha256: Sha256
    correct: int


class KnownCombined(Struct, frozen=True, kw_only=True):
    """The golden outcome of seeds 0 to `seeds - 1` together."""

    seeds: int
    sha256: Sha256
    all_right: int


class Known(Struct, frozen=True, kw_only=True):
    """What is known beforehand of one batch size of a sweep: its golden answers, if any."""

    batch_size: int
    answers: list[KnownAnswer] = []
    combined: KnownCombined | None = None


class SweepProcess(Struct, frozen=True, kw_only=True):
    """One process of a sweep: what trained in it, how long it took to start."""

    id: str
    backend: str
    device: str
    threads: int
    import_s: float
    compile_s: float
    machine: dict[str, Any]
    note: str = ""
    peak_rss_bytes: int | None = None
    died: str | None = None


class SweepInfo(FolderInfo, frozen=True, kw_only=True):
    """`run.json` of a sweep: what was asked for, on what, and when it finished."""

    kind: str = "sweep"
    plan: SweepPlan
    recipe_sha256: str
    backend: str
    device: str
    threads: int | None
    timeout_s: float
    anonymous: bool = False
    host: dict[str, Any]
    known: list[Known]
    processes: list[SweepProcess] = []
    stopped: str | None = None
    finished: str | None = None


class Chunk(Line, frozen=True, kw_only=True):
    """One line of `chunks.jsonl`: consecutive seeds, trained; a list has one entry a seed.

    Attributes:
        scores: right answers on the test points after the last epoch.
        first_epochs: the first epoch after which all were right; null if there is none.
        lapses: how often they were all right after an epoch and not after the next.
        right_after: after each epoch, how many seeds had them all right.
        sha256s: the digests of the final weights.
        chunk_s: seconds for all of it, digests included.
    """

    process: str
    batch_size: int
    first_seed: int
    count: int
    chunk_s: float
    scores: list[int]
    first_epochs: list[int | None]
    lapses: list[int]
    right_after: list[int]
    sha256s: list[Sha256]

    def __post_init__(self) -> None:
        for name in ("scores", "first_epochs", "lapses", "sha256s"):
            if len(getattr(self, name)) != self.count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, not {self.count}")


class Example(Struct, frozen=True, kw_only=True):
    """One trained model as a picture: test points, and its output over the plane they lie in.

    `logits` has one row for each step of x1 from low to high, each with one value a step of x0.
    """

    batch_size: int
    seed: int
    correct: int
    total: int
    sha256: Sha256
    x0: list[float]
    x1: list[float]
    labels: list[int]
    right: list[bool]
    low: float
    high: float
    logits: list[list[float]]

    def __post_init__(self) -> None:
        if not len(self.x0) == len(self.x1) == len(self.labels) == len(self.right):
            raise ValueError("x0, x1, labels and right are not of one length")
        if not self.logits or any(len(row) != len(self.logits[0]) for row in self.logits):
            raise ValueError("the rows of logits are not of one length")
