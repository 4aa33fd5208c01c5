"""A run: its request and all observations."""

from operator import attrgetter
from typing import Any

from msgspec import Struct

from xorbench.records.schema.golden import Float64Reference, GoldenInputs
from xorbench.records.schema.line import FolderInfo
from xorbench.records.schema.phases import PhasesLine
from xorbench.records.schema.process import ProcessRecord
from xorbench.records.schema.system import SystemSample
from xorbench.records.schema.training import (
    BoundaryPoints,
    CalibrationLine,
    EpochLine,
    Failure,
    Skip,
    TrainingRecord,
    Unfinished,
)
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.recipe import Recipe


class RunInfo(FolderInfo, frozen=True, kw_only=True):
    """`run.json`: the request, the machine, and when the run finished."""

    kind: str = "run"
    recipe: Recipe
    recipe_sha256: str
    cases: list[Case]
    configs: list[ProcessConfig]
    processes_per_config: int
    warmup_epochs: int
    timeout_s: float
    schedule_seed: int
    faults: list[str]
    anonymous: bool = False
    save_weights: bool = False
    require_devices: bool = False
    stress: str | None = None
    baseline: str | None = None
    precision: float | None = None
    most_processes: int = 0
    phases: bool = False  # whether the phases of the epochs are timed, in a separate pass
    calibration_version: int
    host: dict[str, Any]
    processes: list[ProcessRecord] = []
    finished: str | None = None


EpochsByTraining = dict[tuple[str, str, bool], list[EpochLine]]
"""The epochs of each training by case, slot, and whether they are warm-up epochs."""


class Run(Struct, frozen=True, kw_only=True):
    """All observations of a run, read from its folder."""

    info: RunInfo
    epochs_by_training: EpochsByTraining
    calibrations: list[CalibrationLine] = []
    trainings: list[TrainingRecord]
    skips: list[Skip]
    failures: list[Failure]
    unfinished: list[Unfinished]
    float64: list[Float64Reference] = []
    golden_inputs: list[GoldenInputs] = []
    phases: list[PhasesLine] = []
    points: BoundaryPoints | None = None
    system_samples: list[SystemSample] = []

    @property
    def epochs(self) -> list[EpochLine]:
        """All epochs, in order of their end."""
        lines = (line for lines in self.epochs_by_training.values() for line in lines)
        return sorted(lines, key=attrgetter("at_s"))

    @property
    def machine(self) -> dict[str, Any]:
        """The machine as the first process reported it; empty if none did."""
        return next((x.machine for x in self.info.processes if x.machine), {})
