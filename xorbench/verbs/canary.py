"""`canary`: one verdict in seconds, from values that are the same on every machine."""

import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xorbench.judge import canary as judge
from xorbench.judge.checks import exit_code
from xorbench.measure import host
from xorbench.measure.pool import OperationFailed, WorkerDied
from xorbench.measure.runner import Slot, golden_of, make_slots, now
from xorbench.observe import yardsticks
from xorbench.observe.records import Verdict
from xorbench.observe.yardsticks import Saved
from xorbench.plan.case import Setting
from xorbench.plan.faults import FaultSpec, read_fault
from xorbench.verbs.workers import running, starter

YARDSTICK_EPOCHS: Final = 25


@dataclass(frozen=True, slots=True)
class Request:
    """A canary as the command line asks for it; no devices means all that are here."""

    devices: tuple[str, ...] | None = None
    models: int | None = None
    seconds: float = 60.0
    root: Path = Path("results")
    save: bool = False
    machine_threshold: float = judge.MACHINE_THRESHOLD
    timeout_s: float = 120.0
    require_devices: bool = False
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdicts, what they were found on, and the exit code they come to."""

    verdicts: list[Verdict]
    machine: dict[str, Any]
    wall_s: float
    exit_code: int


def canary(
    request: Request,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Check every device in one fresh worker; `say` is told each mismatch of a burn-in at once."""
    begun = clock()
    saved = yardsticks.load(request.root)  # a damaged file is said before anything is measured
    with tempfile.TemporaryDirectory() as folder:
        slots = make_slots([Setting()], 1, request.faults)
        with running(slots, starter(lambda name: Path(folder) / name, request.timeout_s)):
            slot = slots[0]
            lacking = slot.ask("probe", devices=list(_devices(request, slot)))
            canary = _Canary(request, slot, saved, say, clock)
            verdicts = [
                verdict
                for device, reason in lacking.items()
                for verdict in ([judge.absent(device, reason)] if reason else canary.check(device))
            ]
    if canary.times_s and request.save:
        yardsticks.save(request.root, canary.key, canary.to_save())
    missing = request.require_devices and any(lacking.values())
    code = exit_code(verdicts, device_missing=missing)
    return Outcome(verdicts, slot.machine, clock() - begun, code)


def _devices(request: Request, slot: Slot) -> tuple[str, ...]:
    if request.devices is not None:
        return request.devices
    return ("cpu", *(device["device"] for device in slot.machine["devices"]))


class _Canary:
    """The checks of one worker's devices."""

    def __init__(
        self,
        request: Request,
        slot: Slot,
        saved: yardsticks.Yardsticks,
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._request, self._slot, self._say, self._clock = request, slot, say, clock
        self.key = yardsticks.machine_key(host.describe(anonymous=True), socket.gethostname())
        self._saved = saved.machines.get(self.key, {})
        self.times_s: dict[str, list[float]] = {}

    def check(self, device: str) -> list[Verdict]:
        """Every verdict on one device; a worker that dies of it is a failed one."""
        try:
            return self._checked(device)
        except (WorkerDied, OperationFailed) as error:
            return [
                Verdict(
                    check="completion",
                    subject=device,
                    outcome="fail",
                    expected="the canary comes to its end",
                    actual=str(error),
                    hint="the device, its driver or this PyTorch does not hold even this",
                )
            ]

    def _checked(self, device: str) -> list[Verdict]:
        verdicts = [*judge.right(device, golden_of(self._slot, device)), self._speed(device)]
        if self._request.models is not None:
            verdicts.append(self._burn(device, self._request.models))
        return verdicts

    def _speed(self, device: str) -> Verdict:
        times_s = [
            self._slot.ask("yardstick", device=device)["yardstick_s"]
            for _ in range(YARDSTICK_EPOCHS)
        ]
        self.times_s[device] = times_s
        saved = self._saved.get(device)
        comparable = saved is not None and saved.yardstick_version == self._slot.yardstick_version
        saved_s = saved.yardstick_s if saved and comparable else None
        return judge.fast(device, times_s, saved_s, self._request.machine_threshold)

    def _burn(self, device: str, models: int) -> Verdict:
        """Train and check ensembles until the time is up; at least one."""
        planted = [f for f in map(read_fault, self._request.faults) if f.name == "flip-model"]
        end = self._clock() + self._request.seconds
        rounds, mismatches = 0, []
        while rounds == 0 or self._clock() < end:
            flip = next((_place(f) for f in planted if f.number("epoch") == rounds), None)
            found = self._slot.ask("burn", device=device, models=models, flip=flip)["mismatches"]
            for wrong in found:
                mismatches.append(
                    f"seed {wrong['seed']} on {device} at {now()}, round {rounds},"
                    f" model {wrong['model']}: {wrong['actual'][:16]}"
                )
                self._say(f"mismatch: {mismatches[-1]}")
            rounds += 1
        return judge.sound(device, judge.Burned(rounds, models, mismatches))

    def to_save(self) -> dict[str, Saved]:
        """The median of each device's yardstick epochs."""
        return {
            device: Saved(
                yardstick_s=statistics.median(times_s),
                yardstick_version=self._slot.yardstick_version,
                torch_version=self._slot.machine["torch_version"],
                saved=now(),
            )
            for device, times_s in self.times_s.items()
        }


def _place(fault: FaultSpec) -> list[int]:
    return [fault.number("element"), fault.number("bit")]
