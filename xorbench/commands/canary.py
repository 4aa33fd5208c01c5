"""`canary`: one verdict in seconds, from values that are the same on every machine."""

import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xorbench.commands.processes import running, starter, terminable
from xorbench.errors import BadFile
from xorbench.judge import canary as judge
from xorbench.judge.checks import exit_code
from xorbench.judge.thresholds import MACHINE_THRESHOLD
from xorbench.measure import host
from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.measure.runner import (
    StartProcess,
    golden_of,
    make_slots,
    now,
    require_working,
    unanswered,
)
from xorbench.observe import calibrations
from xorbench.observe.calibrations import Saved
from xorbench.observe.records import Verdict
from xorbench.plan.case import ProcessConfig, with_index
from xorbench.plan.faults import FaultSpec, read_fault

CALIBRATION_EPOCHS: Final = 25


@dataclass(frozen=True, slots=True)
class CanaryRequest:
    """A canary as the command line asks for it; no devices means all that are here."""

    devices: tuple[str, ...] | None = None
    models: int | None = None
    seconds: float = 60.0
    root: Path = Path("results")
    save: bool = False
    machine_threshold: float = MACHINE_THRESHOLD
    timeout_s: float = 120.0
    require_devices: bool = False
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CanaryOutcome:
    """The verdicts, what they were found on, and the exit code they come to."""

    verdicts: list[Verdict]
    machine: dict[str, Any]
    wall_s: float
    exit_code: int


def canary(
    request: CanaryRequest,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> CanaryOutcome:
    """Check every device in a fresh process; `say` is told each mismatch of a burn-in at once.

    Ctrl-C or a polite kill ends it with what was found until then.
    """
    begun = clock()
    saved = calibrations.load(request.root)  # a damaged file is said before anything is measured
    if request.save:
        calibrations.save(request.root, "", {})  # and so is a folder that cannot be written
    canary = _Canary(request, saved, say, clock)
    with tempfile.TemporaryDirectory() as folder, terminable():
        try:
            canary.check_all(starter(lambda name: Path(folder) / name, request.timeout_s))
        except KeyboardInterrupt:
            canary.interrupted = True
    if request.save:
        canary.save()
    missing = request.require_devices and any(v.check == "device" for v in canary.verdicts)
    code = exit_code(canary.verdicts, interrupted=canary.interrupted, device_missing=missing)
    return CanaryOutcome(canary.verdicts, canary.machine, clock() - begun, code)


class _Canary:
    """The checks of a machine's devices, and what they have found so far."""

    def __init__(
        self,
        request: CanaryRequest,
        saved: calibrations.SavedCalibrations,
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._request, self._say, self._clock = request, say, clock
        self._key = calibrations.machine_key(host.describe(anonymous=True), socket.gethostname())
        mine = saved.machines.get(self._key, {})
        self._saved = {with_index(device): one for device, one in mine.items()}
        self._slot = make_slots([ProcessConfig()], 1, request.faults)[0]
        self._times_s: dict[str, list[float]] = {}
        self.machine: dict[str, Any] = {}
        self.verdicts: list[Verdict] = []
        self.interrupted = False

    def check_all(self, start: StartProcess) -> None:
        """Check each device; one that kills the process costs the others nothing."""
        devices = list(self._request.devices or ())
        while True:
            with running([self._slot], start):
                self.machine = self._slot.machine
                devices = devices or ["cpu", *(d["device"] for d in self.machine["devices"])]
                while devices:
                    self._check(devices.pop(0))
                    if not self._slot.process or not self._slot.process.alive():
                        break
            if not devices:
                return

    def _check(self, device: str) -> None:
        """Add every verdict on one device; a process that dies of it is a failed one."""
        try:
            reason = self._slot.ask("probe", devices=[device])[device]
            if reason:
                self.verdicts.append(judge.absent(device, reason))
                return
            golden = golden_of(self._slot, device)
            self.verdicts += judge.right(device, golden)
            if error := unanswered(golden):
                require_working(self._slot, device, error)
            self.verdicts.append(self._speed(device))
            if self._request.models is not None:
                self._burn(device, self._request.models)
        except (ProcessDied, OperationFailed) as error:
            self.verdicts.append(judge.broken(device, str(error)))
            if isinstance(error, OperationFailed):
                self._leave_if_lost(device, str(error))

    def _leave_if_lost(self, device: str, error: str) -> None:
        """End a process in which the device works no more: the next device gets a fresh one."""
        with suppress(ProcessDied, OperationFailed):
            require_working(self._slot, device, error)

    def _speed(self, device: str) -> Verdict:
        times_s = [
            self._slot.ask("calibration", device=device)["calibration_s"]
            for _ in range(CALIBRATION_EPOCHS)
        ]
        self._times_s[device] = times_s
        saved = self._saved.get(with_index(device))
        comparable = (
            saved is not None and saved.calibration_version == self._slot.calibration_version
        )
        saved_s = saved.calibration_s if saved and comparable else None
        unavailable_reason = (
            f"the saved value is of calibration version {saved.calibration_version}, this is"
            f" version {self._slot.calibration_version}"
            if saved
            else "no saved value to compare with"
        )
        return judge.fast(
            device, times_s, saved_s, self._request.machine_threshold, unavailable_reason
        )

    def _burn(self, device: str, models: int) -> None:
        """Train and check ensembles until the time is up, at least once; judge what was done."""
        injected = [f for f in map(read_fault, self._request.faults) if f.name == "flip-model"]
        end = self._clock() + self._request.seconds
        rounds: int = 0
        mismatches: list[str] = []
        try:
            while rounds == 0 or self._clock() < end:
                flip = next((_place(f) for f in injected if f.number("epoch") == rounds), None)
                answer = self._slot.ask("burn", device=device, models=models, flip=flip)
                rounds += 1  # from here on the round counts, whatever interrupts the telling
                for wrong in answer["mismatches"]:
                    mismatches.append(_in_words(wrong, device, rounds - 1))
                    self._say(f"mismatch: {mismatches[-1]}")
        finally:
            if rounds:
                burned = judge.Burned(rounds, models, mismatches)
                self.verdicts.append(judge.sound(device, burned))

    def save(self) -> None:
        """Save the median calibration time of each device that computes right."""
        wrong = {v.subject for v in self.verdicts if v.outcome == "fail" and v.check != "speed"}
        times = {
            with_index(device): Saved(
                calibration_s=statistics.median(times_s),
                calibration_version=self._slot.calibration_version,
                torch_version=self.machine["torch_version"],
                saved=now(),
            )
            for device, times_s in self._times_s.items()
            if device not in wrong
        }
        try:
            calibrations.save(self._request.root, self._key, times)
        except BadFile as error:  # the verdicts are worth more
            self._say(error.message)


def _in_words(wrong: dict[str, Any], device: str, rounds: int) -> str:
    return (
        f"seed {wrong['seed']} on {device} at {now()}, round {rounds},"
        f" model {wrong['model']}: {wrong['actual'][:16]}"
    )


def _place(fault: FaultSpec) -> list[int]:
    return [fault.number("element"), fault.number("bit")]
