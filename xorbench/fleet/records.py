"""Records of ranks and findings about them: frozen, versioned, bounded.

They are exchanged between machines as JSON, so every text has a maximum length and every number a
range. A record outside these limits is a finding about its sender. Times are in seconds.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from xorbench.records.files import UNDECODABLE
from xorbench.records.schema.line import Sha256
from xorbench.state_digest import DIGITS

SCHEMA_VERSION: Final = 3
LARGEST_MESSAGE: Final = 1 << 20  # maximum bytes of one JSON message, except a rank's records

Version = Literal[3]
GoldenCheck = Literal["arithmetic", "universal", "probes"]
Rank = Annotated[int, Meta(ge=0, lt=1_000_000)]
BoundedCount = Annotated[int, Meta(ge=0, lt=1 << 40)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,253}\Z")]
Text = Annotated[str, Meta(max_length=500)]
BoundedSeconds = Annotated[float, Meta(gt=0, lt=1e9)]
EpochDigests = Annotated[str, Meta(pattern=r"^([0-9a-f]{16})*\Z", max_length=DIGITS * 20_000)]
Severity = Literal["isolate", "investigate", "note"]


class Series(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Median and quartiles of repeated timings, in seconds, and their number."""

    median_s: BoundedSeconds
    q1_s: BoundedSeconds
    q3_s: BoundedSeconds
    rounds: Annotated[int, Meta(ge=1, lt=1 << 40)]

    @property
    def log_iqr(self) -> float:
        """The IQR of the logarithms."""
        return math.log(self.q3_s / self.q1_s)


class Wrong(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that differs from its golden value."""

    what: Text
    expected: Text
    actual: Text


class NodeTraining(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One PyTorch training of a rank: digests, score and speed.

    Attributes:
        epoch_digests: the first 16 hex digits of the digest after each epoch, joined.
        relative: the median over rounds of the normalized time; null without calibration times.
        diverged: the first epoch at which this rank's own processes differ; null if they agree.
    """

    variant: Text
    recipe_sha256: Sha256
    inputs_sha256: Sha256
    weights_sha256: Sha256
    epoch_digests: EpochDigests
    correct: BoundedCount
    total: BoundedCount
    epoch: Series
    relative: Annotated[float, Meta(gt=0, lt=1e9)] | None = None
    processes: Annotated[int, Meta(ge=1, lt=1_000)] = 1
    diverged: BoundedCount | None = None

    @property
    def bits(self) -> tuple[str, str, str]:
        """The digests of the inputs, of the final weights and of each epoch."""
        return self.inputs_sha256, self.weights_sha256, self.epoch_digests


class Sensors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sensor values of an accelerator after the work; null if the driver does not report one."""

    temperature_c: Annotated[int, Meta(ge=-100, le=500)] | None = None
    sm_clock_mhz: BoundedCount | None = None
    memory_clock_mhz: BoundedCount | None = None
    ecc_uncorrected: BoundedCount | None = None
    throttled: list[Text] = []


class Node(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device of one rank, read from its run folder.

    Attributes:
        key: the environment of the PyTorch training: equal keys must give identical bits.
        checked: number of values compared with golden values, by check; `arithmetic`,
            `universal` and `probes` list the mismatches.
        failed: descriptions of failed and unfinished cases.
        stopped: why the rank ended early; empty if it finished.
    """

    schema_version: Version = SCHEMA_VERSION
    rank: Rank | None = None
    world: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    node: Name
    device: Name
    model: Text
    run: Name
    key: Annotated[dict[Text, Text], Meta(max_length=64)]
    checked: dict[GoldenCheck, BoundedCount]
    arithmetic: Annotated[list[Wrong], Meta(max_length=64)] = []
    universal: Annotated[list[Wrong], Meta(max_length=64)] = []
    probes: Annotated[list[Wrong], Meta(max_length=64)] = []
    trainings: Annotated[list[NodeTraining], Meta(max_length=256)] = []
    calibration: Series | None = None
    calibration_version: BoundedCount
    failed: Annotated[list[Text], Meta(max_length=64)] = []
    stopped: Text = ""
    sensors: Sensors | None = None


class CheckIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The message of a rank that it has started, sent before its run."""

    schema_version: Version = SCHEMA_VERSION
    rank: Rank
    world: Annotated[int, Meta(ge=1, le=1_000_000)]
    node: Name


class Missing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rank without a result; `node` is empty if it never checked in."""

    rank: Rank
    node: Name | Literal[""] = ""
    why: Text
    came: bool


class Bad(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An invalid record and its sender."""

    sender: Text
    rank: Rank | None = None
    node: Name | Literal[""] = ""
    reason: Text


class Replica(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rank's replica in the collective training: the digest of its weights after each epoch.

    Attributes:
        ulps: distance of the final weights from a single-process training on the same global
            batches, reported by the rank that ran it.
        checked: number of collective results compared with their expected value; `wrong` lists
            the mismatches, `unavailable` the collectives that the backend lacks.
    """

    schema_version: Version = SCHEMA_VERSION
    rank: Rank
    node: Name
    epoch_digests: Annotated[list[Sha256], Meta(max_length=20_000)] = []
    ulps: Annotated[float, Meta(ge=0)] | None = None
    checked: BoundedCount = 0
    wrong: Annotated[list[Wrong], Meta(max_length=64)] = []
    unavailable: Annotated[list[Text], Meta(max_length=64)] = []
    failed: Text = ""


class Finding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finding: subject, evidence, severity and remedy."""

    code: Name
    severity: Severity
    node: str
    rank: int | None
    device: str
    evidence: str = field(name="found")
    remedy: str


class Fleet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fleet.json`: every rank's record without its epoch digests, and the findings."""

    schema_version: Version = SCHEMA_VERSION
    kind: Literal["fleet"] = "fleet"
    xorbench_version: str
    id: str
    command: str
    judged: str
    exit_code: int
    findings: list[Finding]
    missing: list[Missing]
    bad: list[Bad]
    replicas: list[Replica]
    nodes: list[Node]


Record = TypeVar("Record", bound=Struct)


def decode(content: bytes, kind: type[Record]) -> Record | str:
    """Decode a record from another machine, or give the reason why it is invalid."""
    if len(content) > LARGEST_MESSAGE:
        return f"{len(content):,} bytes exceed the limit of {LARGEST_MESSAGE:,}"
    try:
        return msgspec.json.decode(content, type=kind)
    except UNDECODABLE as error:
        return f"not a record of this schema: {error}"[:500]


def name(text: Any) -> str:
    """The text as a name: characters outside A-Za-z0-9_.:- become underscores."""
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", str(text))[:253] or "_"


def key_name(key: Mapping[str, str]) -> str:
    """The short name of an environment: the start of the SHA-256 of its canonical JSON."""
    text = json.dumps(dict(key), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def training_name(training: NodeTraining) -> str:
    """The name of a training in the atlas: the recipe and the variant."""
    return f"{training.recipe_sha256[:16]}/{training.variant}"
