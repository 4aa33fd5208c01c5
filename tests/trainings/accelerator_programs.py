"""Programs that run in a process with the simulated accelerator: each prints JSON.

Times are counted in kernels. With `state.lazy` a kernel runs only during a synchronization, so that
times do not depend on the load of the machine.
"""

import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from simulated_device import device
from simulated_device.device import counts, devices, state
from torch import distributed
from torch.distributed import TCPStore

from xorbench.process import collective, machine, stressors
from xorbench.process.universal_training import UniversalTraining
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training import float64, seeding
from xorbench.xor.training import phases as phase_marks
from xorbench.xor.training import training as loop
from xorbench.xor.training.calibration import CalibrationWorkload
from xorbench.xor.training.engines import UnsupportedCase, compiling, operator_trace
from xorbench.xor.training.training import Training

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = Recipe(train_size=300, test_size=20, epochs=3)
BASE = Case(batch_size=64, drop_last=False)  # 300 is not a multiple: the last batch is short
SECOND = "simulated:1"


@contextmanager
def lazy() -> Iterator[None]:
    """In the block, kernels run only during a synchronization."""
    state.lazy = True
    try:
        yield
    finally:
        state.lazy = False


def digests(case: Case) -> list[str]:
    """The epoch digests of a fresh training."""
    training = Training(case, SMALL)
    return [training.step().digest for _ in range(SMALL.epochs)]


# Identical bits


SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "pinned": {"pin_memory": True},
    "pinned, non-blocking": {"pin_memory": True, "non_blocking": True},
    "data on the device": {"data_on_device": True},
    "foreach": {"optimizer": "foreach"},
    "fused": {"optimizer": "fused"},
    "float64": {"dtype": "float64"},
}
ENGINES = ("loader", "fetch", "tensor", "replay")


def bits() -> dict[str, Any]:
    """Settings, engines and devices with the CPU's bits, and the numbers of kernels."""
    equal: dict[str, bool] = {}
    with lazy():
        for name, settings in SETTINGS.items():
            case = replace(BASE, **settings)
            cpu = digests(case)
            for engine in ENGINES:
                placed = replace(case, device=SECOND, engine=engine)
                equal[f"{name}: {engine}"] = digests(placed) == cpu
        on_second = [device.kernels for device in devices]
        for engine in ENGINES:
            placed = replace(BASE, device="simulated", engine=engine)
            equal[f"first device: {engine}"] = digests(placed) == digests(BASE)
    return {"equal": equal, "on_second": on_second, "pinned": counts["pinned"]}


# Graphs


def graphs() -> dict[str, Any]:
    """The results of a graph on each device, and of a graph on the wrong device."""
    equal = {
        device: digests(replace(BASE, device=device, engine="replay")) == digests(BASE)
        for device in ("simulated", "simulated:0", SECOND)
    }
    training = Training(replace(BASE, device=SECOND, engine="replay"), SMALL)
    launched = devices[1].kernels
    training.run_epoch()
    results = {"equal": equal, "launched": devices[1].kernels - launched}

    @contextmanager
    def nowhere(_device: object) -> Iterator[None]:
        yield

    # If the first device is the current one, the graph captures no kernel of the second.
    sys.modules["xorbench.xor.training.engines.replay"].current = nowhere  # type: ignore[attr-defined]
    try:
        Training(replace(BASE, device=SECOND, engine="replay"), SMALL)
    except UnsupportedCase as error:
        results["refused"] = error.message
    return results


# Clocks, in kernels


def done(index: int) -> Callable[[], float]:
    """A clock that counts the completed kernels of a device."""
    return lambda: float(devices[index].done)


def clocks() -> dict[str, Any]:
    """The times of an epoch, a start-up and a calibration, with and without synchronization."""
    times: dict[str, Any] = {}
    with lazy():
        training = Training(replace(BASE, device=SECOND), SMALL, clock=done(1))
        training.step()  # from here on no operator is new
        times["startup"] = training.startup_s
        before = devices[1].kernels
        times["epoch"] = training.step().epoch_s
        times["kernels"] = devices[1].kernels - before
        calibration = CalibrationWorkload(torch.device(SECOND), clock=done(1))
        calibration.epoch()
        times["calibration"] = calibration.epoch()
        universal = replace(BASE, device=SECOND, engine="universal")
        times["universal startup"] = UniversalTraining(universal, SMALL, clock=done(1)).startup_s
        original, loop.synchronize = loop.synchronize, lambda _device: None
        times["epoch, not synchronized"] = training.step().epoch_s
        loop.synchronize = original
    return times


# Phases, in kernels, and pinned batches


def phases() -> dict[str, Any]:
    """The phases of an epoch, and the number of its pinned batches."""
    with lazy():
        training = Training(replace(BASE, device=SECOND), SMALL, clock=done(1))
        training.step()
        epoch = phase_marks.marked_epoch(training)
    pins = Training(replace(BASE, pin_memory=True), SMALL)
    pinned = phase_marks.marked_epoch(pins)
    return {
        "epoch": epoch.epoch_s,
        "phases": {name: sum(slots) for name, slots in epoch.phases_s.items()},
        "pinned": [pinned.pinned, pinned.batches],
        "not requested": epoch.pinned,
    }


# Memory, in bytes


def memory() -> dict[str, Any]:
    """The current and peak memory of a training, on its own and next to others."""
    case = replace(BASE, device=SECOND)

    def finished(case: Case) -> tuple[int | None, int | None]:
        training = Training(case, SMALL)
        for _ in range(SMALL.epochs):
            training.step()
        result = training.finish()
        return result.accelerator_peak_bytes, result.accelerator_grown_bytes

    finished(case)
    sizes: dict[str, Any] = {"single": finished(case)}
    neighbour = Training(replace(case, batch_size=128, data_on_device=True), SMALL)
    neighbour.step()
    sizes["next to another"] = finished(case)
    sizes["other device"] = torch.simulated.max_memory_allocated("simulated:0")
    del neighbour
    gc.collect()
    sizes["left"] = torch.simulated.memory_allocated(SECOND)
    kept = Training(replace(case, data_on_device=True), SMALL)
    sizes["held"] = torch.simulated.memory_allocated(SECOND)
    del kept
    training = Training(replace(case, engine="replay", batch_size=300), SMALL)
    sizes["set-up"] = torch.simulated.max_memory_allocated(SECOND)
    sizes["peak"] = training.finish().accelerator_peak_bytes
    return sizes


# Random states


def randomness() -> dict[str, Any]:
    """The global generators after a training on one device, and its own generator."""
    first, second = devices
    first.seed, first.offset, second.seed, second.offset = 11, 3, 12, 4
    training = Training(replace(BASE, device=SECOND), SMALL)
    training.step()
    after = [[d.seed, d.offset] for d in devices]
    with training._globals.swapped_in():
        inside = second.seed
    with operator_trace.restored(training.spec):
        torch.rand(3, device=SECOND)
        drawn = second.offset
    return {
        "after": after,
        "own seed": inside == seeding.stream(0, "global") % 2**63,
        "drawn": drawn,
        "restored": second.offset,
    }


# The device itself


def copies() -> dict[str, Any]:
    """The values of a copy whose source changes before the synchronization."""
    results: dict[str, Any] = {}
    with lazy():
        for name, options in {
            "pageable": {},
            "pageable, non-blocking": {"non_blocking": True},
            "pinned": {},
            "pinned, non-blocking": {"non_blocking": True},
        }.items():
            source = torch.zeros(2)
            source = source.pin_memory() if name.startswith("pinned") else source
            copy = source.to(SECOND, **options)
            source.fill_(1)
            results[name] = copy.tolist()
    try:
        torch.ones(2) + torch.ones(2, device=SECOND)
    except RuntimeError as error:
        results["mixed"] = str(error)
    try:
        torch.ones(2, device="simulated:0") + torch.ones(2, device=SECOND)
    except RuntimeError as error:
        results["two devices"] = str(error)
    return results


def fewer() -> dict[str, Any]:
    """Why devices are unavailable on a machine with none or one."""
    reasons = {}
    for count in (0, 1):
        before, device.COUNT = device.COUNT, count
        reasons[str(count)] = {n: machine.unavailable_reason(n) for n in ("simulated", SECOND)}
        device.COUNT = before
    return reasons


def processes() -> dict[str, Any]:
    """The devices according to the operations of a process."""
    before = [device.kernels for device in devices]
    work = stressors.STRESSORS["accelerator"](SECOND)
    work()
    stressed = [device.kernels > count for device, count in zip(devices, before, strict=True)]
    return {
        "machine": machine.describe(),
        "reasons": {
            name: machine.unavailable_reason(name)
            for name in ("cpu", "simulated", "simulated:1", "simulated:2", "cuda", "other")
        },
        "compile": compiling.unavailable_reason(SECOND),
        "stressed": stressed,
    }


def lessons() -> dict[str, Any]:
    """The lessons for an accelerator: whether each statement holds, and its values."""
    sys.path.insert(0, str(EXAMPLES))
    tutorial = import_module("lessons")
    not_pinned = tutorial.Pinning(tutorial.accelerator(), pin=lambda tensor: tensor)
    tests = {
        "moved": tutorial.test_to_device,
        "pinned": tutorial.test_pinned_memory,
        "pays": lambda measured: tutorial.test_pinned_copies(measured, not_pinned),
    }
    return {name: lesson(test) for name, test in tests.items()}


def lesson(test: Callable[[Callable[[str], None]], None]) -> tuple[bool, list[str]]:
    """Whether the statement of a test holds, and its measured values."""
    values: list[str] = []
    try:
        test(values.append)
    except AssertionError:
        return False, values
    return True, values


def numbers() -> dict[str, Any]:
    """The settings of precision while a training steps, and afterwards."""
    training = Training(replace(BASE, device=SECOND, tf32=True), SMALL)
    with training._globals.swapped_in():
        inside = torch.get_float32_matmul_precision()
    autocast = replace(BASE, device=SECOND, dtype="bfloat16")
    reduced = float64.significand(replace(BASE, device=SECOND, tf32=True))
    return {
        "tf32": [inside, torch.get_float32_matmul_precision()],
        "bits": reduced,
        "bfloat16": digests(autocast) != digests(replace(BASE, device=SECOND)),
    }


def joined() -> dict[str, Any]:
    """The current device after a rank has joined the others."""
    store = TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=60))
    collective._join("127.0.0.1", store.port, 0, 1, 60.0, torch.device(SECOND))
    current = torch.accelerator.current_device_index()
    torch.accelerator.set_device_index(0)
    distributed.destroy_process_group()
    return {"current": current}


def everything() -> dict[str, Any]:
    """The results of all programs without graphs."""
    first = (clocks, phases, memory, randomness, copies, processes, fewer)
    programs = (*first, lessons, numbers, joined)
    return {function.__name__: function() for function in programs}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(globals()[sys.argv[1]]()) + "\n")
