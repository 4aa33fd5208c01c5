"""Run a plan: open every training, advance them round by round, record what is observed.

The whole story is `Runner.run`. What can go wrong on the way — a process that crashes, hangs or is
killed — costs the case it was stepping, and nothing else: the others are opened again in a fresh
process and must reproduce their recorded epoch digests before they go on (`recovery`).
"""

import base64
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from xorbench.measure.golden_answers import (
    golden_inputs_of,
    golden_of,
    probe_of,
    require_working,
    unanswered,
)
from xorbench.measure.phase_pass import PhasePass, unmeasured
from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.measure.recovery import ImpossibleTime, Recovery, check_of
from xorbench.measure.run_state import Progress, RunState
from xorbench.measure.schedule import shuffled
from xorbench.measure.slots import (
    ActiveTraining,
    ProcessSlot,
    StartProcess,
)
from xorbench.measure.system_samples import Watch
from xorbench.measure.training_lines import float64_record, followed_key, training_end
from xorbench.observe.folders import now
from xorbench.observe.records.golden import ProbeRecord
from xorbench.observe.records.process import slot_of
from xorbench.observe.records.run import Run, RunInfo
from xorbench.observe.records.training import (
    CalibrationLine,
    EpochLine,
    Failure,
    TrainingRecord,
)
from xorbench.observe.store import RunStore
from xorbench.plan.axes import reordering
from xorbench.plan.case import to_dict
from xorbench.plan.engines import CALIBRATIONS_A_ROUND, calibration_key, training_kind
from xorbench.plan.faults import read_fault
from xorbench.plan.honour import float64_refusal
from xorbench.plan.probes import exact_probes


@dataclass(frozen=True, eq=False, slots=True)
class Timing:
    """One timing of a calibration workload in a slot: its device and its kind."""

    slot: ProcessSlot
    key: tuple[str, str]
    cold: bool = False


class Runner:
    """Drives the processes of one run and records what they observe."""

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
        self._phases = PhasePass(self._state, lambda one: self._opening(one, "timed"))
        self._watch = Watch()
        self._followed: set[object] = set()
        self._inputs_checked: set[tuple[str, int]] = set()
        self._probed: set[tuple[str, str]] = set()

    @property
    def info(self) -> RunInfo:
        """What `run.json` says now."""
        return self._state.info

    def run(self) -> None:
        """Bring every open case to its end, and write each observation as it is made."""
        for slot in self._state.slots:  # nothing is timed yet: all of them at once
            if devices := _devices(slot):
                slot.ask_ahead("universal", device=devices[0])
        for slot in self._state.slots:
            self._recovery.guarded(slot, self._check_golden, slot)
        to_do = sum(self._state.to_do(one) for one in self._state.active())
        self._state.progress.begin(to_do + self._phases.to_do())
        for slot in self._state.slots:
            self._recovery.guarded(slot, self._open_all, slot)
        number = 0
        while self._state.unfinished():
            self._round(number)
            number += 1
        for one in self._state.active():
            self._recovery.guarded(one.slot, self._follow, one)
        for one in shuffled(self._state.active(), self.info.schedule_seed, -1):
            self._recovery.guarded(one.slot, self._finish, one)
        for one in shuffled(self._phases.left, self.info.schedule_seed, -3):
            self._recovery.guarded(one.slot, self._time_phases, (one,))
        for slot in self._state.slots:
            self._state.retire(slot)
        self._state.write_info(finished=now())

    def restore(self, run: Run) -> None:
        """Give the slots what this run has recorded so far, and do nothing of it again."""
        ended: list[TrainingRecord | Failure] = [*run.trainings, *run.failures]
        done = {(record.case.id, slot_of(record.process)) for record in ended}
        for slot in self._state.slots:
            slot.active = [x for x in slot.active if (x.case.id, slot.name) not in done]
        self._followed = {followed_key(line) for line in run.float64}
        self._inputs_checked = {(line.process, line.seed) for line in run.golden_inputs}
        self._probed = {
            (process.config.id, device)
            for process in run.info.processes
            for device, golden in process.golden.items()
            if golden.probes
        }
        self._restore_phases(run)
        active = {(one.case.id, one.slot.name): one for one in self._state.active()}
        for (case, name, warmup), lines in run.epochs_by_training.items():
            if one := active.get((case, name)):
                (one.warmup if warmup else one.timed).extend(lines)

    def _restore_phases(self, run: Run) -> None:
        """Take up the pass where it was stopped."""
        self._phases.restore(run)
        left, cases = unmeasured(run), {case.id: case for case in run.info.cases}
        for slot in self._state.slots:
            for case in (case for case, name in sorted(left) if name == slot.name):
                self._phases.add(ActiveTraining(cases[case], slot))

    def _check_golden(self, slot: ProcessSlot) -> None:
        """Have each of the slot's devices run the universal training and the exact probes."""
        for device in _devices(slot):
            found = golden_of(slot, device)
            if not unanswered(found):
                found = msgspec.structs.replace(found, probes=self._probe(slot, device))
            golden = {**self._state.record(slot).golden, device: found}
            self._state.update(slot, golden=golden)
            if error := unanswered(found):
                require_working(slot, device, error)
        self._state.write_info()
        for seed in sorted(
            {x.case.seed for x in slot.active if training_kind(x.case) == "pytorch"}
        ):
            self._check_inputs(slot, seed)

    def _probe(self, slot: ProcessSlot, device: str) -> list[ProbeRecord]:
        """Run the exact probes in the first process of each config: the device is one for all."""
        key = (slot.config.id, device)
        if key in self._probed:
            return []
        self._probed.add(key)
        return [probe_of(slot, device, probe) for probe in exact_probes()]

    def _check_inputs(self, slot: ProcessSlot, seed: int) -> None:
        """Have the process compare what it draws for a seed with NumPy's reading, once."""
        key = (slot.process_id, seed)
        if key not in self._inputs_checked:
            self._inputs_checked.add(key)
            line = golden_inputs_of(slot, self.info.recipe, seed)
            self._state.store.append("golden_inputs.jsonl", line)

    # One round

    def _round(self, number: int) -> None:
        """Process after process in this round's order, one epoch of each of its trainings.

        The first task after a process switch runs with cold caches and loses up to a millisecond,
        which is a larger share of a short calibration workload than of an epoch. So each process's
        turn begins with a cold calibration, which stands beside no epoch; the others are shuffled
        among the trainings.
        """
        for slot in shuffled(self._state.slots, self.info.schedule_seed, number):
            open_now = [one for one in self._state.unfinished() if one.slot is slot]
            keys = sorted({calibration_key(one.case) for one in open_now})
            for key in keys:
                self._recovery.guarded(slot, self._calibrate, Timing(slot, key, cold=True))
            warm = [Timing(slot, key) for key in keys] * CALIBRATIONS_A_ROUND
            acts: list[ActiveTraining | Timing] = [*open_now, *warm]
            for act in shuffled(acts, self.info.schedule_seed, number, slot.name):
                if isinstance(act, Timing):
                    self._recovery.guarded(slot, self._calibrate, act)
                elif act in slot.active:
                    self._recovery.guarded(slot, self._step, act)
        self._sample_conditions()

    def _sample_conditions(self) -> None:
        processes = [slot.process.popen.pid for slot in self._state.slots if slot.process]
        system_samples = self._watch.sample(processes)
        if system_samples:
            self._state.store.append("system_samples.jsonl", system_samples)

    def _calibrate(self, timing: Timing) -> None:
        """Time one calibration workload, if a training is left that it serves."""
        slot, key = timing.slot, timing.key
        served = [
            x for x in self._state.unfinished() if x.slot is slot and calibration_key(x.case) == key
        ]
        if not served:
            return
        try:
            asked = self._clock()
            seconds: float = slot.ask("calibration", device=key[0], kind=key[1])["calibration_s"]
            answered = self._clock()
            require_possible(seconds, "the calibration workload")
        except OperationFailed as error:
            require_working(slot, key[0], str(error))
            for one in served:
                self._state.fail(one, f"the calibration workload: {error}", check_of(error))
            return
        if not timing.cold:
            slot.calibrated.add(key)
        line = CalibrationLine(
            process=slot.process_id,
            device=key[0],
            kind=key[1],
            calibration_s=seconds,
            cold=timing.cold,
            waited_s=answered - asked,
            at_s=answered - self._began,
        )
        self._state.store.append("calibrations.jsonl", line)

    def _step(self, one: ActiveTraining) -> None:
        if not one.slot.process or not one.slot.process.alive():
            raise self._death_between(one.slot)
        if calibration_key(one.case) not in one.slot.calibrated:
            self._calibrate(Timing(one.slot, calibration_key(one.case)))
            if one not in one.slot.active:  # it has failed with the calibration workload
                return
        line = self._epoch(one, one.timed, one.handle)
        self._state.store.append("epochs.jsonl", line)
        one.timed.append(line)
        self._state.progress.advance(1)

    def _epoch(self, one: ActiveTraining, before: Sequence[EpochLine], handle: int) -> EpochLine:
        """Have one epoch trained, and time the answer; raises `ImpossibleTime`."""
        asked = self._clock()
        answer = self._recovery.ask(one, "step", training=handle)
        answered = self._clock()
        require_possible(answer["epoch_s"], f"epoch {len(before)}")
        return EpochLine(
            process=one.slot.process_id,
            case=one.case.id,
            epoch=len(before),
            waited_s=answered - asked,
            at_s=answered - self._began,
            **answer,
        )

    def _death_between(self, slot: ProcessSlot) -> ProcessDied:
        """How a process died between two requests: no case is to blame."""
        try:
            slot.ask("usage")
        except ProcessDied as death:
            return death
        return ProcessDied("closed its pipe")

    # Opening, and opening again

    def _open_all(self, slot: ProcessSlot) -> None:
        for one in shuffled(slot.active, self.info.schedule_seed, -2):
            if one in slot.active:
                self._recovery.attempt(one, self._warm_up, one)
        for one in list(slot.active):
            self._recovery.attempt(one, self._open, one)
        peak = slot.ask("usage")["peak_rss_bytes"]
        self._state.update(slot, opened_rss_bytes=peak)

    def _warm_up(self, one: ActiveTraining) -> None:
        """Train a throw-away twin for a few epochs; the timed training starts anew."""
        if one.timed:
            return
        handle = self._open_twin(one, "warm-up")["training"]
        seen: list[EpochLine] = []
        for epoch in range(self.info.warmup_epochs):
            line = msgspec.structs.replace(self._epoch(one, seen, handle), warmup=True)
            seen.append(line)
            if epoch < len(one.warmup):
                self._require_same(one, one.warmup[epoch], line.digest, "warm-up epoch")
            else:
                self._state.store.append("epochs.jsonl", line)
                one.warmup.append(line)
                self._state.progress.advance(1)
        self._recovery.ask(one, "close", training=handle)

    def _open(self, one: ActiveTraining) -> None:
        """Open the timed training and bring it to where its record ends."""
        answer = self._open_twin(one, "timed")
        one.handle, one.inputs_sha256 = answer["training"], answer["inputs_sha256"]
        for recorded in one.timed:
            answer = self._recovery.ask(one, "step", training=one.handle)
            self._require_same(one, recorded, answer["digest"], "epoch")

    @staticmethod
    def _require_same(one: ActiveTraining, recorded: EpochLine, seen: str, what: str) -> None:
        if seen != recorded.digest and not reordering(one.case):
            raise OperationFailed(
                f"after a restart, {what} {recorded.epoch} gave digest {seen[:16]},"
                f" recorded was {recorded.digest[:16]}"
            )

    def _open_twin(self, one: ActiveTraining, phase: str) -> dict[str, Any]:
        answer = self._recovery.ask(one, "open", **self._opening(one, phase))
        if one.startup_s is None:
            one.startup_s = answer["startup_s"]
        return answer

    def _opening(self, one: ActiveTraining, phase: str) -> dict[str, Any]:
        """What the operation `open` takes: case, recipe, and the faults of this phase."""
        slot = one.slot
        faults = [f for f in self._faults if f.hits(one.case, slot.config, slot.index, phase)]
        return {
            "case": to_dict(one.case),
            "recipe": to_dict(self.info.recipe),
            "faults": [fault.to_dict() for fault in faults],
        }

    # The end of a training

    def _follow(self, one: ActiveTraining) -> None:
        """Have the training followed once in double precision, if it has not been and can be."""
        key = followed_key(one)
        weights = [line.weights for line in one.timed]
        if key in self._followed or float64_refusal(one.case) or None in weights:
            return
        case, recipe = to_dict(one.case), to_dict(self.info.recipe)
        rate = self.info.recipe.learning_rate(one.case.batch_size)  # not as the process has it
        try:
            answer = one.slot.ask("float64", case=case, recipe=recipe, rate=rate, weights=weights)
        except OperationFailed as error:  # the training is sound all the same; its check stays open
            self._state.progress.note(f"{one.case.id}: not followed in double precision: {error}")
            return
        self._followed.add(key)
        if answer["followed"]:
            self._state.store.append("float64.jsonl", float64_record(one, answer["followed"]))

    def _finish(self, one: ActiveTraining) -> None:
        """Have the trained model scored, saved and loaded, and record the training as one line."""
        with_state = self.info.save_weights
        answer = self._recovery.ask(one, "finish", training=one.handle, with_state=with_state)
        state = answer.pop("state", None)
        if state is not None:
            name = f"weights/{one.slot.name}-{one.case.id}.pt"
            self._state.store.write_bytes(name, base64.b64decode(state))
        self._state.store.append("results.jsonl", training_end(one, answer))
        one.slot.active.remove(one)
        self._phases.add(one)

    def _time_phases(self, target: tuple[ActiveTraining]) -> None:
        """Time the phases of a training that has its results: it cannot be lost any more."""
        self._phases.measure(*target)


def _devices(slot: ProcessSlot) -> list[str]:
    """The devices of the slot's trainings."""
    return sorted({one.case.device for one in slot.active})


def require_possible(seconds: float | None, what: str) -> None:
    """Raise `ImpossibleTime` for a time that is not above zero."""
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        shown = "no number" if seconds is None else f"{seconds:.3g} s"
        raise ImpossibleTime(f"{what} took {shown} by the process's clock")
