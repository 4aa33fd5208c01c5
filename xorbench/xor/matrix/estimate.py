"""Estimate of the duration of a plan from calibration times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.engines import calibration_key
from xorbench.xor.matrix.not_tested import NotTested
from xorbench.xor.matrix.phases import pass_epochs
from xorbench.xor.matrix.recipe import Recipe


@dataclass(frozen=True, slots=True)
class EngineCost:
    """The cost of an engine in seconds: set-up, per step, per sample."""

    open_s: float
    step_s: float
    sample_s: float


# Measured on the machine of results/reference/, with a calibration time of `CALIBRATION_S`. Costs
# on a different machine are scaled by its calibration time. Third-party engines count as loader.
CALIBRATION_S: Final = 5.9e-3
COSTS: Final = {
    "loader": EngineCost(0.0, 294e-6, 2.63e-6),
    "fetch": EngineCost(0.0, 305e-6, 0.6e-6),
    "tensor": EngineCost(0.0, 267e-6, 0.32e-6),
    "replay": EngineCost(0.07, 38e-6, 0.19e-6),
    "compile": EngineCost(7.0, 326e-6, 0.5e-6),
    "universal": EngineCost(0.3, 5e-6, 0.01e-6),
}
LOADER_WORKERS_S: Final = 53e-3  # start of two loader workers in each epoch
IMPORTING_S: Final = 4.0  # start of two loader workers that are not forked and import PyTorch
CALIBRATIONS: Final = 4  # per round and kind of calibration workload
CHECKS_S: Final = 3.0  # golden values, golden inputs and float64 references of a process
REPORTS_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run: recipe, cases, configs, and the processes per config."""

    recipe: Recipe
    cases: tuple[Case, ...]
    configs: tuple[ProcessConfig, ...] = (ProcessConfig(),)
    processes_per_config: int = 2
    warmup_epochs: int = 2
    phases: bool = False  # whether a separate pass times the phases of the epochs


@dataclass(frozen=True, slots=True)
class ProcessPace:
    """The measured start-up and calibration time of a process of a config (s)."""

    start_s: float
    calibration_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """The plan of a run and an estimate of its time; `note` is a warning.

    `cases` and `configs` are ids with a note; the cases in `not_tested` will not run.
    `--precision` may add processes up to `most_processes`; the estimate covers the first ones.
    `phases_s` is its share for the pass that times the phases of an epoch.
    """

    cases: list[tuple[str, str]]
    not_tested: list[NotTested]
    configs: list[tuple[str, str]]
    processes: int
    most_processes: int
    estimate_s: float
    note: str
    phases_s: float = 0.0

    @property
    def trained(self) -> int:
        """The number of cases that will run."""
        return len(self.cases) - sum(group.cases for group in self.not_tested)


def estimate_s(plan: Plan, paces: Mapping[str, ProcessPace], cores: int) -> float:
    """The estimated duration of the plan in seconds, within a factor of two.

    `paces` are by config id; other configs count as their mean.
    """
    training_s = sum(_config_s(plan, config, paces) for config in plan.configs)
    processes = plan.processes_per_config * len(plan.configs)
    start_s = max((pace.start_s for pace in paces.values()), default=0.0)
    at_once = min(processes, max(1, cores))
    return REPORTS_S + start_s * math.ceil(processes / at_once) + training_s


def phases_s(plan: Plan, paces: Mapping[str, ProcessPace], cores: int) -> float:
    """The share of the estimate for the pass that times the phases of an epoch, in seconds."""
    return estimate_s(plan, paces, cores) - estimate_s(replace(plan, phases=False), paces, cores)


def _config_s(plan: Plan, config: ProcessConfig, paces: Mapping[str, ProcessPace]) -> float:
    """Seconds of all processes of a config, which take turns."""
    calibrations_s = [pace.calibration_s for pace in paces.values()] or [CALIBRATION_S]
    pace = paces.get(config.id)
    calibration_s = pace.calibration_s if pace else sum(calibrations_s) / len(calibrations_s)
    scale = calibration_s / CALIBRATION_S
    kinds = len({calibration_key(case) for case in plan.cases})
    epochs = plan.recipe.epochs + plan.warmup_epochs
    round_s = sum(_epoch_s(plan.recipe, case) for case in plan.cases)
    round_s += CALIBRATIONS * kinds * CALIBRATION_S
    open_s = sum(_cost(case).open_s for case in plan.cases)
    pass_s = 0.0
    if plan.phases:
        pass_s = sum(pass_epochs(plan.recipe, c) * _epoch_s(plan.recipe, c) for c in plan.cases)
    return plan.processes_per_config * scale * (epochs * round_s + pass_s + open_s + CHECKS_S)


def _cost(case: Case) -> EngineCost:
    return COSTS.get(case.engine, COSTS["loader"])


def _epoch_s(recipe: Recipe, case: Case) -> float:
    cost = _cost(case)
    steps = recipe.steps(case.batch_size, case.drop_last)
    samples = recipe.samples(case.batch_size, case.drop_last)
    return _loader_workers_s(case) + steps * cost.step_s + samples * cost.sample_s


def _loader_workers_s(case: Case) -> float:
    """Seconds to start the loader workers of an epoch."""
    if not case.num_workers or case.persistent_workers:
        return 0.0
    forked = case.multiprocessing_context in ("auto", "fork")
    return LOADER_WORKERS_S if forked else IMPORTING_S


def crowded(cases: Sequence[Case], configs: Sequence[ProcessConfig], cores: int) -> str:
    """A warning about an option that needs more processors than available; empty if none does."""
    threads = max((config.threads or 0 for config in configs), default=0)
    loader_workers = max((case.num_workers for case in cases), default=0)
    if threads > cores:
        option = f"--threads {threads}"
    elif loader_workers >= max(2, cores + 1):
        option = f"--num-workers {loader_workers}"
    else:
        return ""
    return f"{option}: this machine has only {cores} processors, so they will share them"
