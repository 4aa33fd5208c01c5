"""`baseline calibrate`: measure the run-to-run variance of this machine."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xorbench.machine import host
from xorbench.records.folders import now
from xorbench.records.saved import SavedVariance, load_variances, save_variance
from xorbench.records.schema.run import Run, RunInfo
from xorbench.runtime.interrupt import terminable
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.compare.run_variance import FEWEST_RUNS, Calibrated, calibrated
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.run.run import RunRequest, trained

FEWEST: Final = FEWEST_RUNS
LOADED: Final = 2  # runs under load on every processor


@dataclass(frozen=True, slots=True)
class CalibrateRequest:
    """The number of quiet runs, and their processes and epochs."""

    root: Path = Path("results")
    runs: int = 8
    processes: int = 2
    epochs: int = Recipe().epochs
    timeout_s: float = 120.0


def calibrate(request: CalibrateRequest, note: Callable[[str], None]) -> Calibrated | None:
    """Make the runs, and save their variance; None if interrupted.

    The runs are made one after another in a temporary folder. Raises `NotCalibrated` if the
    variance cannot be computed from them.
    """
    load_variances(request.root)  # an unreadable file fails before the runs, not after
    request.root.mkdir(parents=True, exist_ok=True)
    with (
        terminable(),
        tempfile.TemporaryDirectory(dir=request.root, prefix=".calibrate-") as folder,
    ):
        quiet: list[Evidence] = []
        loaded: list[Evidence] = []
        for number in range(request.runs + LOADED):
            stress = None if number < request.runs else "cpu"
            load = " under load" if stress else ""
            note(f"run {number + 1} of {request.runs + LOADED}{load}")
            run = _run(request, Path(folder) / str(number), stress)
            if run is None:
                return None
            (loaded if stress else quiet).append(Evidence(run))
    calibration = calibrated(quiet, loaded, now()[:10])
    _save(request, calibration, quiet[0].run.info)
    return calibration


def _run(request: CalibrateRequest, folder: Path, stress: str | None) -> Run | None:
    return trained(
        RunRequest(
            recipe=Recipe(epochs=request.epochs),
            axes={"device": ("cpu",)},
            command="baseline calibrate",
            root=folder,
            quick=True,
            processes_per_config=request.processes,
            timeout_s=request.timeout_s,
            stress=stress,
        )
    )


def _save(request: CalibrateRequest, calibration: Calibrated, info: RunInfo) -> None:
    saved = SavedVariance(
        between_runs=calibration.variance.between,
        residual_drift=calibration.variance.residual_drift,
        runs=request.runs,
        processes=request.processes,
        calibration_version=info.calibration_version,
        torch_version=info.processes[0].machine["torch_version"],
        saved=now(),
    )
    save_variance(request.root, host.key(), saved)
