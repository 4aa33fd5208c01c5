"""A sweep: its request and its chunks of trained seeds."""

from typing import Any

from msgspec import Struct

from xorbench.machine.universal.sweep_plan import SweepPlan
from xorbench.records.schema.line import FolderInfo, Line, Sha256


class KnownAnswer(Struct, frozen=True, kw_only=True):
    """The golden result of one seed."""

    seed: int
    sha256: Sha256
    correct: int


class KnownCombined(Struct, frozen=True, kw_only=True):
    """The golden result of seeds 0 to `seeds - 1` together."""

    seeds: int
    sha256: Sha256
    all_right: int


class Known(Struct, frozen=True, kw_only=True):
    """The golden results of one batch size of a sweep, if any."""

    batch_size: int
    answers: list[KnownAnswer] = []
    combined: KnownCombined | None = None


class SweepProcess(Struct, frozen=True, kw_only=True):
    """One process of a sweep: its backend and its start-up time."""

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
    """`run.json` of a sweep: the request, the machine, and when the sweep finished."""

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
    """One line of `chunks.jsonl`: consecutive trained seeds; each list has one entry per seed.

    Attributes:
        scores: correct predictions for the test points after the last epoch.
        first_epochs: the first epoch after which all predictions were correct; null if none.
        lapses: how often all predictions were correct after an epoch but not after the next.
        right_after: after each epoch, the number of seeds with all predictions correct.
        sha256s: the digests of the final weights.
        chunk_s: seconds for the whole chunk, including digests.
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
    """One trained model as a picture: test points, and its output over their plane.

    `logits` has one row for each step of x1 from low to high, with one value per step of x0.
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
            raise ValueError("x0, x1, labels and right differ in length")
        if not self.logits or any(len(row) != len(self.logits[0]) for row in self.logits):
            raise ValueError("the rows of logits differ in length")
