"""Run a plan: open every training, advance them round by round, record the observations.

`Runner.run` is the whole sequence. A process that crashes, hangs or is killed costs only the case
that it was stepping. The others are reopened in a fresh process and must reproduce their recorded
epoch digests before they continue (`recovery`).
"""

import base64
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from xorbench.machine.golden_answers import (
    golden_inputs_of,
    golden_of,
    probe_of,
    require_working,
    unanswered,
)
from xorbench.machine.probes.table import exact_probes
from xorbench.machine.system_samples import SystemSampler
from xorbench.records.folders import now
from xorbench.records.schema.golden import ProbeRecord
from xorbench.records.schema.process import slot_of
from xorbench.records.schema.run import Run, RunInfo
from xorbench.records.schema.training import CalibrationLine, EpochLine, Failure, TrainingRecord
from xorbench.records.store import RunStore
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ActiveTraining, ProcessSlot, Progress, RunState, StartProcess
from xorbench.xor.matrix.axes import reordering
from xorbench.xor.matrix.case import to_dict
from xorbench.xor.matrix.engines import CALIBRATIONS_PER_ROUND, calibration_key, training_kind
from xorbench.xor.matrix.faults import read_fault
from xorbench.xor.matrix.support import float64_refusal
from xorbench.xor.run.phase_pass import PhasePass
from xorbench.xor.run.recovery import ImpossibleTime, Recovery, check_of


@dataclass(frozen=True, eq=False, slots=True)
class Timing:
    """One timing of a calibration workload in a slot: its device and its kind."""

    slot: ProcessSlot
    key: tuple[str, str]
    cold: bool = False


class Runner:
    """Drives the processes of one run and records their observations."""

    def __init__(
        self,
        info: RunInfo,
        store: RunStore,
        slots: list[ProcessSlot],
        start: StartProcess,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self._state = RunState(info, store, slots, progress)
        self._recovery = Recovery(self._state, start, self._open_all)
        self._faults = [read_fault(text) for text in info.faults]
        self._phases = PhasePass(self._state, lambda training: self._opening(training, "timed"))
        self._sampler = SystemSampler()
        self._referenced: set[object] = set()
        self._inputs_checked: set[tuple[str, int]] = set()
        self._probed: set[tuple[str, str]] = set()

    @property
    def info(self) -> RunInfo:
        """The current content of `run.json`."""
        return self._state.info

    def run(self) -> None:
        """Finish every open case, and write each observation at once."""
        for slot in self._state.slots:  # nothing is timed yet, so they run at once
            if devices := _devices(slot):
                slot.ask_ahead("universal", device=devices[0])
        for slot in self._state.slots:
            self._recovery.guarded(slot, self._check_golden, slot)
        left = sum(self._state.epochs_left(training) for training in self._state.active())
        self._state.progress.begin(left + self._phases.epochs_left())
        for slot in self._state.slots:
            self._recovery.guarded(slot, self._open_all, slot)
        number = 0
        while self._state.unfinished():
            self._round(number)
            number += 1
        for training in self._state.active():
            self._recovery.guarded(training.slot, self._compute_float64, training)
        for training in shuffled(self._state.active(), self.info.schedule_seed, -1):
            self._recovery.guarded(training.slot, self._finish, training)
        for training in shuffled(self._phases.left, self.info.schedule_seed, -3):
            self._recovery.guarded(training.slot, self._phases.measure, training)
        for slot in self._state.slots:
            self._state.retire(slot)
        self._state.write_info(finished=now())

    def restore(self, run: Run) -> None:
        """Continue from the records of this run, without repeating them."""
        ended: list[TrainingRecord | Failure] = [*run.trainings, *run.failures]
        done = {(record.case.id, slot_of(record.process)) for record in ended}
        for slot in self._state.slots:
            slot.active = [x for x in slot.active if x.key not in done]
        self._referenced = {(tuple(line.key), line.epochs_sha256) for line in run.float64}
        self._inputs_checked = {(line.process, line.seed) for line in run.golden_inputs}
        self._probed = {
            (process.config.id, device)
            for process in run.info.processes
            for device, golden in process.golden.items()
            if golden.probes
        }
        self._phases.restore(run)
        active = {training.key: training for training in self._state.active()}
        for (case, name, warmup), lines in run.epochs_by_training.items():
            if training := active.get((case, name)):
                (training.warmup if warmup else training.timed).extend(lines)

    def _check_golden(self, slot: ProcessSlot) -> None:
        """Have each of the slot's devices run the universal training and the exact probes."""
        for device in _devices(slot):
            golden = golden_of(slot, device)
            error = unanswered(golden)
            if not error:
                golden = msgspec.structs.replace(golden, probes=self._probe(slot, device))
            recorded = self._state.record(slot).golden
            self._state.update(slot, golden={**recorded, device: golden})
            if error:
                require_working(slot, device, error)
        self._state.write_info()
        cases = [training.case for training in slot.active]
        for seed in sorted({case.seed for case in cases if training_kind(case) == "pytorch"}):
            self._check_inputs(slot, seed)

    def _probe(self, slot: ProcessSlot, device: str) -> list[ProbeRecord]:
        """Run the exact probes, only in the first process of each config and device."""
        key = (slot.config.id, device)
        if key in self._probed:
            return []
        self._probed.add(key)
        return [probe_of(slot, device, probe) for probe in exact_probes()]

    def _check_inputs(self, slot: ProcessSlot, seed: int) -> None:
        """Have the process compare its inputs of a seed with NumPy's reading, once."""
        key = (slot.process_id, seed)
        if key not in self._inputs_checked:
            self._inputs_checked.add(key)
            line = golden_inputs_of(slot, self.info.recipe, seed)
            self._state.store.append("golden_inputs.jsonl", line)

    # One round

    def _round(self, number: int) -> None:
        """Train one epoch of each training, process by process in this round's order.

        The first task after a process switch runs with cold caches and loses up to a millisecond,
        which is a larger share of a short calibration workload than of an epoch. So each process's
        turn begins with a cold calibration, which is used for no epoch; the others are shuffled
        among the trainings.
        """
        for slot in shuffled(self._state.slots, self.info.schedule_seed, number):
            open_now = [training for training in self._state.unfinished() if training.slot is slot]
            keys = sorted({calibration_key(training.case) for training in open_now})
            for key in keys:
                self._recovery.guarded(slot, self._calibrate, Timing(slot, key, cold=True))
            warm = [Timing(slot, key) for key in keys] * CALIBRATIONS_PER_ROUND
            acts: list[ActiveTraining | Timing] = [*open_now, *warm]
            for act in shuffled(acts, self.info.schedule_seed, number, slot.name):
                if isinstance(act, Timing):
                    self._recovery.guarded(slot, self._calibrate, act)
                elif act in slot.active:
                    self._recovery.guarded(slot, self._step, act)
        self._sample_conditions()

    def _sample_conditions(self) -> None:
        processes = [slot.process.popen.pid for slot in self._state.slots if slot.process]
        system_samples = self._sampler.sample(processes)
        if system_samples:
            self._state.store.append("system_samples.jsonl", system_samples)

    def _calibrate(self, timing: Timing) -> None:
        """Time one calibration workload, if an unfinished training needs it."""
        slot, key = timing.slot, timing.key
        dependent = [
            x for x in self._state.unfinished() if x.slot is slot and calibration_key(x.case) == key
        ]
        if not dependent:
            return
        try:
            requested = self._clock()
            seconds: float = slot.ask("calibration", device=key[0], kind=key[1])["calibration_s"]
            answered = self._clock()
            require_possible(seconds, "the calibration workload")
        except OperationFailed as error:
            require_working(slot, key[0], str(error))
            for training in dependent:
                self._state.fail(training, f"the calibration workload: {error}", check_of(error))
            return
        if not timing.cold:
            slot.calibrated.add(key)
        line = CalibrationLine(
            process=slot.process_id,
            device=key[0],
            kind=key[1],
            calibration_s=seconds,
            cold=timing.cold,
            waited_s=answered - requested,
            at_s=answered - self._began,
        )
        self._state.store.append("calibrations.jsonl", line)

    def _step(self, training: ActiveTraining) -> None:
        if not training.slot.process or not training.slot.process.alive():
            raise self._death_between(training.slot)
        if calibration_key(training.case) not in training.slot.calibrated:
            self._calibrate(Timing(training.slot, calibration_key(training.case)))
            if training not in training.slot.active:  # it has failed with the calibration workload
                return
        line = self._epoch(training, training.timed, training.handle)
        self._state.store.append("epochs.jsonl", line)
        training.timed.append(line)
        self._state.progress.advance(1)

    def _epoch(
        self, training: ActiveTraining, before: Sequence[EpochLine], handle: int
    ) -> EpochLine:
        """Have one epoch trained, and time the answer; raises `ImpossibleTime`."""
        requested = self._clock()
        answer = self._recovery.ask(training, "step", training=handle)
        answered = self._clock()
        require_possible(answer["epoch_s"], f"epoch {len(before)}")
        return EpochLine(
            process=training.slot.process_id,
            case=training.case.id,
            epoch=len(before),
            waited_s=answered - requested,
            at_s=answered - self._began,
            **answer,
        )

    def _death_between(self, slot: ProcessSlot) -> ProcessDied:
        """The death of a process between two requests, which blames no case."""
        try:
            slot.ask("usage")
        except ProcessDied as death:
            return death
        return ProcessDied("closed its pipe")

    # Opening and reopening

    def _open_all(self, slot: ProcessSlot) -> None:
        for training in shuffled(slot.active, self.info.schedule_seed, -2):
            if training in slot.active:
                self._recovery.attempt(training, self._warm_up)
        for training in list(slot.active):
            self._recovery.attempt(training, self._open)
        peak = slot.ask("usage")["peak_rss_bytes"]
        self._state.update(slot, opened_rss_bytes=peak)

    def _warm_up(self, training: ActiveTraining) -> None:
        """Train a warm-up run of a few epochs; the timed training starts from scratch."""
        if training.timed:
            return
        handle = self._open_phase(training, "warm-up")["training"]
        lines: list[EpochLine] = []
        for epoch in range(self.info.warmup_epochs):
            line = msgspec.structs.replace(self._epoch(training, lines, handle), warmup=True)
            lines.append(line)
            if epoch < len(training.warmup):
                self._require_same(training, training.warmup[epoch], line.digest, "warm-up epoch")
            else:
                self._state.store.append("epochs.jsonl", line)
                training.warmup.append(line)
                self._state.progress.advance(1)
        self._recovery.ask(training, "close", training=handle)

    def _open(self, training: ActiveTraining) -> None:
        """Open the timed training, and repeat its recorded epochs."""
        answer = self._open_phase(training, "timed")
        training.handle, training.inputs_sha256 = answer["training"], answer["inputs_sha256"]
        for recorded in training.timed:
            answer = self._recovery.ask(training, "step", training=training.handle)
            self._require_same(training, recorded, answer["digest"], "epoch")

    @staticmethod
    def _require_same(
        training: ActiveTraining, recorded: EpochLine, digest: str, epoch: str
    ) -> None:
        if digest != recorded.digest and not reordering(training.case):
            raise OperationFailed(
                f"after a restart, {epoch} {recorded.epoch} gave digest {digest[:16]},"
                f" recorded was {recorded.digest[:16]}"
            )

    def _open_phase(self, training: ActiveTraining, phase: str) -> dict[str, Any]:
        answer = self._recovery.ask(training, "open", **self._opening(training, phase))
        if training.startup_s is None:
            training.startup_s = answer["startup_s"]
        return answer

    def _opening(self, training: ActiveTraining, phase: str) -> dict[str, Any]:
        """The arguments of the operation `open`: case, recipe, and the faults of this phase."""
        slot = training.slot
        faults = [f for f in self._faults if f.hits(training.case, slot.config, slot.index, phase)]
        return {
            "case": to_dict(training.case),
            "recipe": to_dict(self.info.recipe),
            "faults": [fault.to_dict() for fault in faults],
        }

    # The end of a training

    def _compute_float64(self, training: ActiveTraining) -> None:
        """Have the float64 reference of the training computed once, if it has one."""
        key = training.float64_key
        weights = [line.weights for line in training.timed]
        if key in self._referenced or float64_refusal(training.case) or None in weights:
            return
        case, recipe = to_dict(training.case), to_dict(self.info.recipe)
        # computed here: an injected fault alters the rate of the process
        rate = self.info.recipe.learning_rate(training.case.batch_size)
        request = {"case": case, "recipe": recipe, "rate": rate, "weights": weights}
        try:
            answer = training.slot.ask("float64", **request)
        except OperationFailed as error:  # the training is valid; its check is inconclusive
            reason = f"no float64 reference: {error}"
            self._state.progress.note(f"{training.case.id}: {reason}")
            return
        self._referenced.add(key)
        if answer["followed"]:
            self._state.store.append("float64.jsonl", training.float64_line(answer["followed"]))

    def _finish(self, training: ActiveTraining) -> None:
        """Have the trained model scored, saved and loaded, and record the training as one line."""
        request = {"training": training.handle, "with_state": self.info.save_weights}
        answer = self._recovery.ask(training, "finish", **request)
        state = answer.pop("state", None)
        if state is not None:
            name = f"weights/{training.slot.name}-{training.case.id}.pt"
            self._state.store.write_bytes(name, base64.b64decode(state))
        self._state.store.append("results.jsonl", training.end_line(answer))
        training.slot.active.remove(training)
        self._phases.add(training)


Item = TypeVar("Item")


def shuffled(items: Sequence[Item], seed: int, *place: int | str) -> list[Item]:
    """The items in a random order that the seed and the place (round, process) determine.

    Thus no case has the same position in every round.
    """
    order = list(items)
    random.Random("/".join(map(str, (seed, *place)))).shuffle(order)
    return order


def _devices(slot: ProcessSlot) -> list[str]:
    """The devices of the slot's trainings."""
    return sorted({training.case.device for training in slot.active})


def require_possible(seconds: float | None, work: str) -> None:
    """Raise `ImpossibleTime` for a time that is not above zero."""
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        shown = "no number" if seconds is None else f"{seconds:.3g} s"
        raise ImpossibleTime(f"{work} took {shown} by the process's clock")
