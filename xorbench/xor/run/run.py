"""`run`: train the matrix, judge it, write the report."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from xorbench import __version__
from xorbench.errors import BadFile, BadOption
from xorbench.machine import host
from xorbench.records import folders, loading
from xorbench.records.folders import now
from xorbench.records.loading import Info
from xorbench.records.schema.process import slot_of
from xorbench.records.schema.run import Run, RunInfo
from xorbench.records.schema.training import Skip
from xorbench.records.store import BYTES_PER_EPOCH, RunStore, create, reopen
from xorbench.runtime.interrupt import terminable, until_interrupted
from xorbench.runtime.slots import ActiveTraining, ProcessSlot, Progress, StartProcess, make_slots
from xorbench.runtime.start import require_same_machine, running, starter, stressed, untrainable
from xorbench.verdicts import Verdict, exit_code
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.precision import too_wide
from xorbench.xor.checks import judge
from xorbench.xor.matrix.case import Case, ProcessConfig, device_type, to_dict
from xorbench.xor.matrix.estimate import crowded
from xorbench.xor.matrix.matrix import expand, expand_configs
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.run.phase_pass import unmeasured
from xorbench.xor.run.runner import Runner

if TYPE_CHECKING:
    from xorbench.report.run_files import RunOutcome
    from xorbench.xor.compare.baseline import WithBaseline


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run as the command line requests it; `axes` holds the axes that were named.

    A field that `RunInfo` has too is recorded there under the same name.
    """

    recipe: Recipe
    axes: dict[str, tuple[Any, ...]]
    command: str
    root: Path = Path("results")
    name: str | None = None
    quick: bool = False
    processes_per_config: int = 2
    warmup_epochs: int = 2
    timeout_s: float = 120.0
    schedule_seed: int = 0
    faults: tuple[str, ...] = ()
    require_devices: bool = False
    save_weights: bool = False
    anonymous: bool = False
    stress: str | None = None
    baseline: str | None = None  # the baseline that judges its speed
    precision: float | None = None  # the requested reach of the intervals, as a share
    most_processes: int = 0  # per config, to reach the precision
    phases: bool = False  # whether the phases of the epochs are timed
    local_rank: int | None = None  # a rank of a launcher, which uses its own accelerator

    @property
    def most(self) -> int:
        """The largest number of processes per config, with those of `--precision`."""
        return max(self.processes_per_config, self.most_processes)

    @property
    def times_phases(self) -> bool:
        """Whether the phases are timed; under load, times are not comparable."""
        return self.phases and self.stress is None


def run(request: RunRequest, progress: Progress | None = None) -> "RunOutcome":
    """Plan, train, judge, report. Raises `BadOption` before anything is written."""
    store, interrupted = train(request, progress or Progress())
    try:
        return conclude(store, interrupted=interrupted)
    finally:
        store.close()


def train(request: RunRequest, progress: Progress) -> tuple[RunStore, bool]:
    """Plan, start processes, train; returns the folder, and whether it was interrupted.

    Raises `BadOption` before anything is written.
    """
    started = now()
    configs, epochs = validated(request)
    slots = make_slots(configs, request.processes_per_config, request.faults, optimizes=True)
    size_bytes = epochs * BYTES_PER_EPOCH
    store = create(request.root, request.name, size_bytes, anonymous=request.anonymous)
    start = starter(store.log_path, request.timeout_s)
    try:
        with terminable(), running(slots, start, _load_reports):
            cases, skips = resolve(request, slots)
            trainable = [case for case in cases if case not in {skip.case for skip in skips}]
            if warning := crowded(trainable, configs, host.cores()):
                progress.note(warning)
            info = _info(request, store, configs, cases, slots, started)
            with stressed(request.stress, _to_stress(trainable, slots[0].machine)):
                for skip in skips:
                    store.append("results.jsonl", skip)
                store.write_info(info)  # with this the folder is a run
                folders.point_latest(request.root, store.folder)
                recipe, seed = to_dict(info.recipe), info.cases[0].seed
                points = slots[0].ask("points", recipe=recipe, seed=seed)
                store.write_json("boundary_points.json", points)
                for slot in slots:
                    slot.active = [ActiveTraining(case, slot) for case in trainable]
                runner = Runner(info, store, slots, start, progress)
                interrupted = _to_the_end(runner, store, start, progress)
    except BaseException:
        store.close()
        raise
    return store, interrupted


def trained(request: RunRequest) -> Run | None:
    """Train without progress, and read the run back; None if it was interrupted."""
    store, interrupted = train(request, Progress())
    store.close()
    return None if interrupted else loading.load(store.folder)


def resume(root: Path, text: str, progress: Progress) -> "RunOutcome":
    """Continue a stopped run to its end; its recorded epochs must be reproduced."""
    folder = folders.find(root, text, "--resume", "run")
    store = reopen(folder)
    try:
        before = loading.load(folder)
        measured = not unmeasured(before)
        if not before.unfinished and measured and not too_wide(before):
            if before.info.finished is None:
                store.write_info(msgspec.structs.replace(before.info, finished=now()))
            return conclude(store)
        info = before.info
        unfinished = {training.slot for training in before.unfinished}
        unfinished |= {slot for _, slot in unmeasured(before)}
        slots = [slot for slot in _slots_of(info) if slot.name in unfinished]
        for slot in slots:
            slot.starts = sum(slot_of(process.id) == slot.name for process in info.processes)
        start = starter(store.log_path, info.timeout_s)
        with terminable(), running(slots, start, _load_reports):
            runner = _resumed(before, info, store, slots, start, progress)
            devices = _to_stress(_trained_cases(before), slots[0].machine) if info.stress else []
            with stressed(info.stress, devices):
                interrupted = _to_the_end(runner, store, start, progress)
        return conclude(store, interrupted=interrupted)
    finally:
        store.close()


def _to_the_end(runner: Runner, store: RunStore, start: StartProcess, progress: Progress) -> bool:
    """Train, and add processes until `--precision` is reached; whether it was interrupted."""

    def work() -> None:
        runner.run()
        if runner.info.precision is None:
            return
        while wide := too_wide(observed := loading.load(store.folder)):
            progress.note(f"{wide}: one more process")
            try:
                _train_once_more(observed, store, start, progress)
            except (BadOption, OSError) as error:  # the run is complete without it
                progress.note(f"no process could be added: {error}")
                return

    return until_interrupted(work, progress, f"run --resume {runner.info.id}")


def _train_once_more(run: Run, store: RunStore, start: StartProcess, progress: Progress) -> None:
    """Train every case in one more process of each config."""
    before = run.info.processes_per_config
    info = msgspec.structs.replace(run.info, processes_per_config=before + 1, finished=None)
    slots = [slot for slot in _slots_of(info) if slot.index == before]
    with running(slots, start):
        _resumed(run, info, store, slots, start, progress).run()


def _slots_of(info: RunInfo) -> list[ProcessSlot]:
    return make_slots(info.configs, info.processes_per_config, info.faults, optimizes=True)


def _resumed(
    run: Run,
    info: RunInfo,
    store: RunStore,
    slots: list[ProcessSlot],
    start: StartProcess,
    progress: Progress,
) -> Runner:
    """A runner that continues a run under the present request, in these started processes."""
    require_same_machine(run, slots, store.folder)
    for slot in slots:
        slot.active = [ActiveTraining(case, slot) for case in _trained_cases(run)]
    runner = Runner(info, store, slots, start, progress)
    runner.restore(run)
    return runner


def _trained_cases(run: Run) -> list[Case]:
    """The cases of a run that are not skipped."""
    skipped = {skip.case.id for skip in run.skips}
    return [case for case in run.info.cases if case.id not in skipped]


def _load_reports() -> None:
    """Import the slow modules of `conclude` while the processes start."""
    importlib.import_module("xorbench.xor.report.runs")
    importlib.import_module("xorbench.report.run_files")


def conclude(store: RunStore, *, interrupted: bool = False) -> "RunOutcome":
    """Read the run back from its files, judge it, and write its reports."""
    from xorbench.report.run_files import write_reports

    store.clean_logs()
    outcome = judged(store.folder, interrupted=interrupted)
    write_reports(store, outcome.content)
    return outcome


def judged(folder: Path, info: Info | None = None, *, interrupted: bool = False) -> "RunOutcome":
    """Judge a run from its files; `info` is its `run.json`, if already read."""
    from xorbench.report.run_files import RunOutcome
    from xorbench.xor.report import runs

    evidence = Evidence(loading.load(folder, info))
    observed = evidence.run
    baseline, baseline_verdicts = _baseline(folder, observed)
    verdicts = [*judge(evidence), *baseline_verdicts]
    lacks_device = any(skip.lacks == "device" for skip in observed.skips)
    missing = observed.info.require_devices and lacks_device
    code = exit_code(verdicts, interrupted=interrupted, device_missing=missing)
    return RunOutcome(folder, runs.content(evidence, verdicts, baseline), code)


def _baseline(folder: Path, run: Run) -> "tuple[WithBaseline | None, list[Verdict]]":
    """The comparison of the run with its baseline, if it has one, and its verdicts."""
    from xorbench.xor.compare.baseline import not_judged
    from xorbench.xor.compare.compare import with_baseline

    try:
        comparison = with_baseline(folder, run)
    except (BadOption, BadFile) as error:
        return None, [not_judged(str(run.info.baseline), error.message)]
    return comparison, [] if comparison is None else comparison.verdicts


# Before the training


def validated(request: RunRequest) -> tuple[tuple[ProcessConfig, ...], int]:
    """The process configs, and the approximate number of epochs of all cases.

    Raises `BadOption` for an invalid matrix, before any process starts.
    """
    if request.baseline is not None:
        from xorbench.xor.compare.compare import require_baseline

        require_baseline(request.root, request.baseline, request.recipe)
        _refuse_stress("--baseline", request)
    cases = expand(request.recipe, {"device": ("cpu",), **request.axes}, quick=request.quick)
    configs = expand_configs(request.axes)
    if request.precision is not None:
        _refuse_stress("--precision", request)
    if (count := len(configs) * request.most) > 64:
        option = "--processes" if request.precision is None else "--precision"
        raise BadOption(f"{option}: {count} processes are more than 64", "fewer --processes")
    each = request.recipe.epochs + request.warmup_epochs
    return configs, len(cases) * count * each


def _refuse_stress(option: str, request: RunRequest) -> None:
    if request.stress is not None:
        raise BadOption(
            f"{option}: cannot be given with --stress", "times under load are not comparable"
        )


def resolve(request: RunRequest, slots: list[ProcessSlot]) -> tuple[tuple[Case, ...], list[Skip]]:
    """The cases for the named devices, or for this machine's devices; and the skipped ones."""
    axes = dict(request.axes)
    if "device" not in axes:
        axes["device"] = _devices(slots[0].machine, request.local_rank)
    cases = expand(request.recipe, axes, quick=request.quick)
    return cases, untrainable(slots[0], request.recipe, cases)


def _devices(machine: dict[str, Any], local_rank: int | None) -> tuple[str, ...]:
    """The default devices: the CPU and the accelerator, or the accelerator of a rank."""
    accelerator = machine.get("accelerator")
    if not accelerator:
        return ("cpu",)
    if local_rank is None:
        return ("cpu", accelerator)
    return (machine["devices"][local_rank % len(machine["devices"])]["device"],)


def _to_stress(cases: Sequence[Case], machine: dict[str, Any]) -> list[str]:
    """The accelerators that `--stress accelerator` loads: the run's, else the first."""
    trained_on = dict.fromkeys(c.device for c in cases if device_type(c.device) != "cpu")
    return list(trained_on) or [device["device"] for device in machine["devices"][:1]]


def _info(
    request: RunRequest,
    store: RunStore,
    configs: Sequence[ProcessConfig],
    cases: Sequence[Case],
    slots: list[ProcessSlot],
    started: str,
) -> RunInfo:
    requested = {field.name: getattr(request, field.name) for field in fields(request)}
    derived = {
        "warmup_epochs": min(request.warmup_epochs, request.recipe.epochs),
        "faults": list(request.faults),
        "phases": request.times_phases,
    }
    shared = RunInfo.__struct_fields__
    return RunInfo(
        xorbench_version=__version__,
        id=store.folder.name,
        started=started,
        recipe_sha256=request.recipe.sha256(),
        cases=list(cases),
        configs=list(configs),
        calibration_version=slots[0].calibration_version,
        host=host.describe(anonymous=request.anonymous),
        **{name: value for name, value in (requested | derived).items() if name in shared},
    )
