"""`canary`: a verdict in seconds from golden values that hold on every machine."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xorbench.errors import BadFile, BadOption
from xorbench.machine import host
from xorbench.machine.canary import verdicts as judge
from xorbench.machine.canary.burn_in import BurnIn
from xorbench.machine.canary.verdicts import CanaryOutcome
from xorbench.machine.golden_answers import (
    golden_of,
    probe_of,
    require_working,
    unanswered,
    unanswered_probe,
)
from xorbench.machine.golden_verdicts import probed
from xorbench.machine.probes.table import PROBES
from xorbench.records.folders import now
from xorbench.records.saved import (
    SavedCalibration,
    SavedCalibrations,
    load_calibrations,
    save_calibrations,
)
from xorbench.runtime.interrupt import terminable
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import StartProcess, make_slots
from xorbench.runtime.start import running, starter
from xorbench.stats.thresholds import MACHINE_THRESHOLD
from xorbench.verdicts import Verdict, exit_code
from xorbench.xor.matrix.case import ProcessConfig, with_index

CALIBRATION_EPOCHS: Final = 25


@dataclass(frozen=True, slots=True)
class CanaryRequest:
    """The options of a canary; without `devices`, all available ones are checked.

    `burn_in_s` is None without a burn-in. `memory` is the number of bytes that it writes; None
    selects a share of the device memory.
    """

    devices: tuple[str, ...] | None = None
    probes: tuple[str, ...] = tuple(PROBES)
    burn_in_s: float | None = None
    memory: int | None = None
    root: Path = Path("results")
    save: bool = False
    machine_threshold: float = MACHINE_THRESHOLD
    timeout_s: float = 120.0
    require_devices: bool = False
    faults: tuple[str, ...] = ()


def canary(request: CanaryRequest, notify: Callable[[str], None]) -> CanaryOutcome:
    """Check every device in a fresh process; `notify` gets each burn-in mismatch immediately.

    Ctrl-C, SIGTERM and SIGHUP end the canary with the verdicts so far.
    """
    started = time.monotonic()
    saved = load_calibrations(request.root)  # before measuring, since the file may be damaged
    if request.save:
        save_calibrations(request.root, "", {})  # fails early in a read-only folder
    canary = _Canary(request, saved)
    burn_in = BurnIn(request, notify)
    with terminable(), tempfile.TemporaryDirectory() as folder:
        start = starter(lambda name: Path(folder) / name, request.timeout_s)
        try:
            canary.check_all(start)
            if request.burn_in_s is not None:
                burn_in.burn(canary.usable, start)
        except KeyboardInterrupt:
            canary.interrupted = True
        finally:
            burn_in.end()
    verdicts = canary.verdicts + burn_in.verdicts()
    if request.save:
        canary.save(verdicts, notify)
    missing = request.require_devices and any(v.check == "device" for v in verdicts)
    code = exit_code(verdicts, interrupted=canary.interrupted, device_missing=missing)
    return CanaryOutcome(verdicts, canary.machine, time.monotonic() - started, code, burn_in.burned)


class _Canary:
    """The checks of a machine's devices and their verdicts so far."""

    def __init__(self, request: CanaryRequest, saved: SavedCalibrations) -> None:
        self._request = request
        self._key = host.key()
        own = saved.machines.get(self._key, {})
        self._saved = {with_index(device): calibration for device, calibration in own.items()}
        # Importing an optimizer imports Dynamo, which takes a second; timing has its own process.
        self._slot, self._timer = make_slots([ProcessConfig()], 2, request.faults)
        self._timing = ""  # the device that the timing process measures or measured last
        self._times_s: dict[str, list[float]] = {}
        self.machine: dict[str, Any] = {}
        self.verdicts: list[Verdict] = []
        self.usable: list[str] = []
        self.interrupted = False

    def check_all(self, start: StartProcess) -> None:
        """Check each device; a device that kills its process does not affect the others."""
        devices = list(self._request.devices or ())
        slots = [self._slot, self._timer][: 2 if "training" in self._request.probes else 1]
        while True:
            try:
                with running(slots, start):
                    self.machine = self._slot.machine
                    devices = devices or ["cpu", *(d["device"] for d in self.machine["devices"])]
                    while devices:
                        self._check(devices.pop(0))
                        if any(not slot.process or not slot.process.alive() for slot in slots):
                            break
            except BadOption as error:
                if not self.verdicts:
                    raise
                reason = f"no process can be started: {error.message}"
                self.verdicts += [judge.lost_verdict(device, reason) for device in devices]
                return
            if not devices:
                return

    def _check(self, device: str) -> None:
        """Add all verdicts on one device; a process that dies is a failed verdict."""
        training = "training" in self._request.probes
        try:
            reason = self._slot.ask("probe", devices=[device])[device]
            if reason:
                self.verdicts.append(judge.absent_verdict(device, reason))
                return
            if training and device == "cpu":
                self._begin_times(device)
            if training:
                self._train(device)
            for probe in self._request.probes:
                if probe != "training":
                    self._probe(device, probe)
            self.usable.append(device)
        except (ProcessDied, OperationFailed) as error:
            self.verdicts.append(judge.lost_verdict(device, str(error)))
            if isinstance(error, OperationFailed):
                # End a process that has lost its device, so that the next device gets a fresh one.
                with suppress(ProcessDied, OperationFailed):
                    require_working(self._slot, device, str(error))
        if training:
            self._take_times(device)

    def _begin_times(self, device: str) -> None:
        if self._timer.process:
            self._timer.process.post("calibrations", device=device, count=CALIBRATION_EPOCHS)
            self._timing = device

    def _train(self, device: str) -> None:
        """Check edge cases and the universal training."""
        golden = golden_of(self._slot, device)
        self.verdicts += judge.golden_verdicts(device, golden)
        if error := unanswered(golden):
            require_working(self._slot, device, error)

    def _probe(self, device: str, probe: str) -> None:
        record = probe_of(self._slot, device, probe)
        self.verdicts.append(probed(probe, device, [record]))
        if error := unanswered_probe(record):
            require_working(self._slot, device, error)

    def _take_times(self, device: str) -> None:
        """Add the times measured by the timing process."""
        assert self._timer.process is not None
        try:
            if self._timing != device:  # an accelerator is timed without other work
                self._begin_times(device)
            times_s = self._timer.process.answer()["calibrations_s"]
        except (ProcessDied, OperationFailed) as error:
            if device in self.usable:  # if not, it is already reported
                self.usable.remove(device)
                self.verdicts.append(judge.lost_verdict(device, str(error)))
            return
        self._times_s[device] = times_s
        self.verdicts.append(self._speed(device, times_s))

    def _speed(self, device: str, times_s: list[float]) -> Verdict:
        saved, version = self._saved.get(with_index(device)), self._timer.calibration_version
        saved_s, reason = None, "no saved value to compare with"
        if saved and saved.calibration_version == version:
            saved_s = saved.calibration_s
        elif saved:
            saved_version = f"the saved value has calibration version {saved.calibration_version}"
            reason = f"{saved_version}, this run has version {version}"
        return judge.speed_verdict(
            device, times_s, saved_s, self._request.machine_threshold, reason
        )

    def save(self, verdicts: Sequence[Verdict], notify: Callable[[str], None]) -> None:
        """Save the median calibration time of each healthy device."""
        failed = [v for v in verdicts if v.outcome == "fail" and v.check != "speed"]
        wrong = {v.subject.partition(": ")[0] for v in failed}
        times = {
            with_index(device): SavedCalibration(
                calibration_s=statistics.median(times_s),
                calibration_version=self._timer.calibration_version,
                torch_version=self.machine["torch_version"],
                saved=now(),
            )
            for device, times_s in self._times_s.items()
            if device not in wrong
        }
        try:
            save_calibrations(self._request.root, self._key, times)
        except BadFile as error:  # the verdicts are still reported
            notify(error.message)
