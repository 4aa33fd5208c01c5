"""The operations of a process: one function per operation, and its row in `OPERATIONS`."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from xorbench.process import machine
from xorbench.process.protocol import Reply
from xorbench.process.serve import without_collections
from xorbench.process.universal_training import UniversalTraining
from xorbench.registry import implementation
from xorbench.xor.matrix.case import Case, case_from
from xorbench.xor.matrix.engines import ENGINES, training_kind
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.recipe import SHOWN_POINTS, Recipe
from xorbench.xor.matrix.support import unsupported_reason
from xorbench.xor.training.calibration import VERSION as CALIBRATION_VERSION
from xorbench.xor.training.calibration import CalibrationWorkload
from xorbench.xor.training.engines import UnsupportedCase
from xorbench.xor.training.faults import inject
from xorbench.xor.training.phases import marked_epoch
from xorbench.xor.training.problem import make_points
from xorbench.xor.training.training import Training, save_state

if TYPE_CHECKING:
    from xorbench.xor.training.trace import Traced


class Session:
    """The objects that this process keeps between requests."""

    def __init__(self) -> None:
        self.trainings: dict[int, Training | UniversalTraining] = {}
        self.traced: dict[int, Traced] = {}
        self.calibrations: dict[tuple[str, str], CalibrationWorkload] = {}
        self.burn_ins: dict[str, Any] = {}
        self.opened = 0


def configure(
    _session: Session,
    *,
    deterministic: bool,
    threads: int | None,
    faults: list[Reply],
    optimizes: bool = False,
) -> Reply:
    """Apply the config; answers the properties of the machine.

    The first optimizer of a process imports PyTorch's compiler, which takes two seconds. If the
    process `optimizes`, it does so now, in parallel with the other processes.
    """
    if faults:
        from xorbench.process.faults import inject_in_process

        inject_in_process([FaultSpec(**fault) for fault in faults])
    if threads is not None:
        torch.set_num_threads(threads)
    # use_deterministic_algorithms also imports Inductor, which takes a second
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.benchmark = False
    if optimizes:
        with without_collections():
            torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return {"machine": machine.describe(), "calibration_version": CALIBRATION_VERSION}


def probe(_session: Session, *, devices: list[str]) -> Reply:
    """Why this machine cannot train on each device; null if it can."""
    return {device: machine.unavailable_reason(device) for device in devices}


def probe_engines(_session: Session, *, engines: list[str], devices: list[str]) -> Reply:
    """Why each engine cannot train on each device here; null if it can."""
    return {engine: _engine_unavailable(engine, devices) for engine in engines}


def _engine_unavailable(engine: str, devices: list[str]) -> dict[str, str | None]:
    if engine not in ENGINES:  # an interpreter without the package of the engine
        return dict.fromkeys(devices, f"the {engine} engine is not installed in this Python")
    reason = ENGINES[engine].unavailable
    return {device: implementation(reason)(device) if reason else None for device in devices}


def open_training(session: Session, *, case: Reply, recipe: Reply, faults: list[Reply]) -> Reply:
    """Set up a training; answers its handle, the digest of its inputs, and its start-up time."""
    injected = [FaultSpec(**fault) for fault in faults]
    training = _opened(case_from(case), Recipe(**recipe), injected)
    session.opened += 1
    session.trainings[session.opened] = training
    return {
        "training": session.opened,
        "inputs_sha256": training.inputs_sha256(),
        "startup_s": training.startup_s,
    }


def _opened(case: Case, recipe: Recipe, faults: list[FaultSpec]) -> Training | UniversalTraining:
    reason = unsupported_reason(case, recipe)
    if reason:
        raise UnsupportedCase(reason)
    if training_kind(case) == "universal":
        return UniversalTraining(case, recipe, faults=faults)
    return Training(case, recipe, alter=partial(inject, faults=faults))


def show_points(_session: Session, *, recipe: Reply, seed: int) -> Reply:
    """The first test points of a seed, to four digits, for a picture."""
    size = Recipe(**recipe)
    data = make_points(size.test_size, size.std, seed, "test")
    x0, x1 = ([round(x, 4) for x in side] for side in data.points[:SHOWN_POINTS].T.tolist())
    return {"seed": seed, "x0": x0, "x1": x1, "labels": data.labels[:SHOWN_POINTS].tolist()}


def open_traced(session: Session, *, case: Reply, recipe: Reply, faults: list[Reply]) -> Reply:
    """Set up a training whose epochs can be recorded; answers its handle and inputs digest."""
    from xorbench.xor.training.trace import Traced  # processes of a run need no recorder

    injected = [FaultSpec(**fault) for fault in faults]
    traced = Traced(case_from(case), Recipe(**recipe), injected)
    session.opened += 1
    session.trainings[session.opened], session.traced[session.opened] = traced.training, traced
    inputs = traced.training.inputs_sha256()
    return {"training": session.opened, "inputs_sha256": inputs}


def record(session: Session, *, training: int, valued: list[int]) -> Reply:
    """Train and record one epoch; values are recorded for the steps in the range `valued`."""
    return asdict(session.traced[training].record(range(*valued)))


def step(session: Session, *, training: int) -> Reply:
    """Train one epoch; answers its seconds, loss and digest, and the time on its clock."""
    opened = session.trainings[training]
    answer = asdict(opened.step())
    return {**answer, "clock_s": opened.clock()}


def marked_step(session: Session, *, training: int) -> Reply:
    """Train one epoch with marks between its phases; answers the seconds of each."""
    opened = session.trainings[training]
    if isinstance(opened, UniversalTraining):
        raise UnsupportedCase("the universal training has no phases")
    return asdict(marked_epoch(opened))


def measure_calibration(session: Session, *, device: str, kind: str = "tensor") -> Reply:
    """Time one epoch of the calibration workload on the device."""
    key = (device, kind)
    if key not in session.calibrations:
        session.calibrations[key] = CalibrationWorkload(torch.device(device), kind)
        session.calibrations[key].epoch()  # warm-up
    return {"calibration_s": session.calibrations[key].epoch()}


def measure_calibrations(session: Session, *, device: str, count: int) -> Reply:
    """Time `count` consecutive epochs of the calibration workload on the device."""
    times_s = [measure_calibration(session, device=device)["calibration_s"] for _ in range(count)]
    return {"calibrations_s": times_s}


def finish(session: Session, *, training: int, with_state: bool) -> Reply:
    """Score, save and reload the training; `with_state` adds the saved file in base64."""
    opened = session.trainings[training]
    answer = asdict(opened.finish())
    if isinstance(opened, UniversalTraining):
        answer["golden"] = opened.checked()
    if with_state:
        answer["state"] = base64.b64encode(save_state(opened.state())).decode()
    return answer


def recompute_in_float64(
    _session: Session, *, case: Reply, recipe: Reply, rate: float, weights: list[str]
) -> Reply:
    """Recompute the weights after each epoch in float64; null if that would take too long."""
    from xorbench.xor.training.float64 import recompute

    followed = recompute(case_from(case), Recipe(**recipe), weights, rate)
    return {"followed": followed and asdict(followed)}


def check_inputs(_session: Session, *, recipe: Reply, seed: int) -> Reply:
    """Compare the random inputs of a seed with NumPy's implementation of the generator."""
    from xorbench.xor.training import golden_inputs

    return golden_inputs.checked(Recipe(**recipe), seed)


def close(session: Session, *, training: int) -> Reply:
    """Discard the training."""
    del session.trainings[training]
    session.traced.pop(training, None)
    return {}


def check_universal(_session: Session, *, device: str) -> Reply:
    """Compare the device with the golden values of the universal training; answers every value."""
    from xorbench.machine.universal import golden
    from xorbench.machine.universal.backends import BACKENDS

    backend = BACKENDS["torch"].load(device)
    return {
        "arithmetic": [asdict(fact) for fact in golden.check_probe(backend.evaluate)],
        "universal": [asdict(fact) for fact in golden.check_seed_0(backend.train)],
    }


def check_probe(_session: Session, *, device: str, probe: str) -> Reply:
    """Run one exact probe on the device at small sizes."""
    from xorbench.machine.probes.check import check

    return asdict(check(probe, device))


def open_burn(
    session: Session,
    *,
    device: str,
    probes: list[str],
    seconds: float,
    memory: int | None,
    flips: dict[str, Sequence[int]],
) -> Reply:
    """Set up the burn-in of a device; answers its units, and notes on skipped ones.

    `refused` is the reason why the requested memory is not available.
    """
    from xorbench.machine.probes.burn import DeviceBurnIn, TooMuchMemory

    try:
        opened = session.burn_ins[device] = DeviceBurnIn(device, probes, seconds, memory, flips)
    except TooMuchMemory as error:
        return {"refused": str(error)}
    return {"units": [unit.name for unit in opened.units], "notes": opened.notes, "refused": ""}


def burn(session: Session, *, device: str, seconds: float) -> Reply:
    """Run the burn-in for `seconds`; answers the work and the mismatches of each turn."""
    turns = session.burn_ins[device].run(seconds)
    return {"turns": [{**t._asdict(), "wrong": [w._asdict() for w in t.wrong]} for t in turns]}


SESSION: Final = Session
OPERATIONS: Final[dict[str, Callable[..., Reply]]] = {
    "configure": configure,
    "probe": probe,
    "probe engines": probe_engines,
    "open": open_training,
    "points": show_points,
    "open traced": open_traced,
    "record": record,
    "step": step,
    "marked step": marked_step,
    "calibration": measure_calibration,
    "calibrations": measure_calibrations,
    "float64": recompute_in_float64,
    "golden inputs": check_inputs,
    "finish": finish,
    "close": close,
    "universal": check_universal,
    "exact probe": check_probe,
    "open burn": open_burn,
    "burn": burn,
}
