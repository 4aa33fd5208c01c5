"""The burn-in of `canary`: all devices of the machine at once, one process each."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import TYPE_CHECKING, Final

from xorbench.errors import BadOption
from xorbench.machine.canary import verdicts as judge
from xorbench.machine.canary.verdicts import BurnedUnit
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ProcessSlot, StartProcess, make_slots
from xorbench.verdicts import Verdict
from xorbench.xor.matrix.case import ProcessConfig
from xorbench.xor.matrix.faults import read_fault

if TYPE_CHECKING:
    from xorbench.machine.canary.canary import CanaryRequest

SLICE_S: Final = 2.0  # working time of a process between its reports
REPORT_EVERY_S: Final = 10.0
THREADS: Final = ProcessConfig(threads=None)
"""The burn-in uses PyTorch's default number of threads."""


class BurnIn:
    """The results of all devices so far; `notify` is called with each mismatch immediately."""

    def __init__(self, request: "CanaryRequest", notify: Callable[[str], None]) -> None:
        self._request, self._notify = request, notify
        self._stop, self._lock = Event(), Lock()
        self._slots: list[ProcessSlot] = []
        self._broken: list[Verdict] = []
        self._notes: list[Verdict] = []
        self._started = self._reported = time.monotonic()
        self.burned: dict[str, list[BurnedUnit]] = {}

    def burn(self, devices: Sequence[str], start: StartProcess) -> None:
        """Run the burn-in on all devices. Raises `BadOption` if `--memory` is too large."""
        self._started = self._reported = time.monotonic()
        with ThreadPoolExecutor(max(1, len(devices))) as pool:
            started: list[Future[None]] = []
            try:
                for device in devices:
                    slot = make_slots([THREADS], 1, self._request.faults)[0]
                    slot.name = f"burn-{device.replace(':', '-')}"
                    self._slots.append(slot)
                    started.append(pool.submit(self._device, device, slot, start))
                while wait(started, timeout=0.5).not_done:
                    self._report_progress()
                    if any(future.done() and future.exception() for future in started):
                        self._stop.set()  # bad input for one device is raised below
            except BaseException:  # running turns finish and are counted
                self._stop.set()
                raise
        for future in started:
            future.result()

    def end(self) -> None:
        """End the processes."""
        for slot in self._slots:
            slot.kill()

    def verdicts(self) -> list[Verdict]:
        """One per unit and device, then the skipped parts, then the lost devices."""
        units = [
            judge.burn_in_verdict(device, unit)
            for device, units in self.burned.items()
            for unit in units
            if unit.turns
        ]
        return units + self._notes + self._broken

    def _device(self, device: str, slot: ProcessSlot, start: StartProcess) -> None:
        """Run the burn-in on one device; a lost device does not affect the others."""
        try:
            slot.launch(start)
            slot.configured()
            self._open(device, slot)
            if not self.burned[device]:
                return  # the notes give the reason
            end = time.monotonic() + (self._request.burn_in_s or 0.0)  # set-up is not included
            units = {unit.unit: unit for unit in self.burned[device]}
            # Even a short burn-in gives every unit one turn.
            while not self._stop.is_set() and (
                time.monotonic() < end or any(not unit.turns for unit in units.values())
            ):
                slice_s = min(SLICE_S, max(0.0, end - time.monotonic()))
                for turn in slot.ask("burn", device=device, seconds=slice_s)["turns"]:
                    self._take(device, units[turn["unit"]], turn)
        except (ProcessDied, OperationFailed) as error:
            with self._lock:
                reason = f"lost in the burn-in: {error}"
                self._broken.append(judge.lost_verdict(device, reason))
                self._notify(f"{device}: {reason}")

    def _open(self, device: str, slot: ProcessSlot) -> None:
        flips = {
            fault.name: [fault.number("epoch"), fault.number("element"), fault.number("bit")]
            for fault in map(read_fault, self._request.faults)
            if fault.kind == "burn-in"
        }
        answer = slot.ask(
            "open burn",
            device=device,
            probes=list(self._request.probes),
            seconds=self._request.burn_in_s,
            memory=self._request.memory,
            flips=flips,
        )
        if answer["refused"]:
            raise BadOption(f"--memory: {device}: {answer['refused']}")
        with self._lock:
            self.burned[device] = [BurnedUnit(unit) for unit in answer["units"]]
            self._notes += [judge.reduced_verdict(device, note) for note in answer["notes"]]

    def _take(self, device: str, unit: BurnedUnit, turn: dict[str, object]) -> None:
        with self._lock:
            for text in unit.add(turn):
                self._notify(f"mismatch on {device}: {text}")

    def _report_progress(self) -> None:
        """Report the elapsed time and the errors so far."""
        now = time.monotonic()
        if now - self._reported < REPORT_EVERY_S:
            return
        self._reported = now
        with self._lock:
            units = [unit for units in self.burned.values() for unit in units]
            errors, results = sum(u.mismatches for u in units), sum(u.results for u in units)
        done = f"{results:,} results, {errors} wrong" if results else "set-up"
        self._notify(f"burn-in: {now - self._started:.0f} s, {done}")
