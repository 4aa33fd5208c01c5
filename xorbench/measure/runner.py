"""Run a plan: open every training, advance them round by round, record what is observed.

The whole story is `Runner.run`. What can go wrong on the way — a process that crashes, hangs or is
killed — costs the case it was stepping, and nothing else: the others are opened again in a fresh
process and must reproduce their recorded epoch digests before they go on.
"""

import base64
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol

import msgspec

from xorbench.errors import BadFile
from xorbench.measure.process import OperationFailed, Process, ProcessDied
from xorbench.measure.schedule import shuffled
from xorbench.measure.system_samples import Watch
from xorbench.observe.records import (
    Count,
    EpochLine,
    Fact,
    Failure,
    Float64Reference,
    Golden,
    GoldenInputs,
    ProbeRecord,
    ProcessRecord,
    Run,
    RunInfo,
    Skip,
    TrainingRecord,
    epoch_digests_sha256,
    slot_of,
    slots,
)
from xorbench.observe.store import RunStore, without_names
from xorbench.plan.case import Case, ProcessConfig, device_type, to_dict
from xorbench.plan.engines import calibration_of, training_kind
from xorbench.plan.faults import FaultSpec, read_fault
from xorbench.plan.honour import float64_key, float64_refusal, unsupported_reason
from xorbench.plan.probes import exact_probes
from xorbench.plan.recipe import Recipe

KILLS_ALLOWED: Final = 2  # a case that has killed this many processes is not tried again
CALIBRATIONS_A_ROUND: Final = 3  # one alone wanders by more than the trainings beside it
IDLE_DEATHS_ALLOWED: Final = 3  # deaths that no case is to blame for, in one slot
# What a process's machine must share with the recorded one before a run is resumed.
SAME_TO_RESUME: Final = (
    "torch_version", "python_version", "cpu", "cpu_capability", "threads", "devices",
)  # fmt: skip

StartProcess = Callable[[str, ProcessConfig], Process]


class ImpossibleTime(OperationFailed):
    """A process reports a time that no clock can show; the message says which."""


class Progress(Protocol):
    """Told how far the run is."""

    def begin(self, epochs: int) -> None:
        """The run has this many epochs to go, warm-up included."""

    def advance(self, epochs: int) -> None:
        """So many epochs are done, or need no longer be done."""

    def note(self, text: str) -> None:
        """Something the user should know now."""


@dataclass(eq=False, slots=True)
class ActiveTraining:
    """A training in progress: its case, its slot, and all that was observed of it so far."""

    case: Case
    slot: "ProcessSlot"
    handle: int = 0
    inputs_sha256: str = ""
    startup_s: float | None = None  # of the first opening in its process
    timed: list[EpochLine] = field(default_factory=list)
    warmup: list[EpochLine] = field(default_factory=list)

    @property
    def epoch_digests(self) -> list[str]:
        """The digests recorded so far."""
        return [line.digest for line in self.timed]


@dataclass(eq=False, slots=True)
class ProcessSlot:
    """A place for one process of a config: who fills it now, and its trainings still to be done.

    `index` is that of the process under its config, from 0.
    """

    name: str
    config: ProcessConfig
    index: int
    starts: int = 0
    idle_deaths: int = 0
    process: Process | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    calibration_version: int = 0
    faults: list[FaultSpec] = field(default_factory=list)
    active: list[ActiveTraining] = field(default_factory=list)
    calibrations: dict[tuple[str, str], deque[float]] = field(default_factory=dict)
    calibration_gaps: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    @property
    def process_id(self) -> str:
        """The present process's id: the slot's name, and which restart it is."""
        return self.name if self.starts <= 1 else f"{self.name}.{self.starts - 1}"

    def calibration_s(self, case: Case) -> float | None:
        """Median of the last calibration times of the case's device and kind, about one round's."""
        latest = self.calibrations.get(calibration_key(case))
        return median(latest) if latest else None

    def launch(self, start: StartProcess) -> None:
        """Start a process for this slot and have it configured; `configured` then waits for it."""
        self.starts += 1
        self.calibrations.clear()
        self.calibration_gaps.clear()
        self.process = start(self.process_id, self.config)
        self.process.post(
            "configure",
            deterministic=self.config.deterministic,
            threads=self.config.threads,
            faults=[fault.to_dict() for fault in self.faults],
        )

    def ask(self, op: str, **args: Any) -> dict[str, Any]:
        """Ask this slot's process; raises `ProcessDied` or `OperationFailed`."""
        if self.process is None:
            raise ProcessDied("it could not be started")
        return self.process.ask(op, **args)

    def configured(self) -> None:
        """Wait until the process is under its config, and keep what machine it found."""
        if self.process is None:
            raise ProcessDied("it could not be started")
        answer = self.process.answer()
        self.machine, self.calibration_version = answer["machine"], answer["calibration_version"]


@dataclass(frozen=True, eq=False, slots=True)
class Timing:
    """One timing of a calibration workload in a slot: its device and its kind."""

    slot: ProcessSlot
    key: tuple[str, str]


def calibration_key(case: Case) -> tuple[str, str]:
    """Device and kind of the calibration workload that a case's times are divided by."""
    return case.device, calibration_of(case)


def make_slots(
    configs: Sequence[ProcessConfig], processes_per_config: int, faults: Sequence[str] = ()
) -> list[ProcessSlot]:
    """The empty slots of a run, for every process of every config; `faults` are texts."""
    injected = [fault for fault in map(read_fault, faults) if fault.kind == "process"]
    return [ProcessSlot(*row, faults=injected) for row in slots(configs, processes_per_config)]


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
        self.info = info
        self._clock = clock
        self._began = clock()
        self._store = store
        self._slots = slots
        self._start = start
        self._progress = progress
        self._faults = [read_fault(text) for text in info.faults]
        self._watch = Watch()
        self._blamed: ActiveTraining | None = None
        self._kills: Counter[str] = Counter()
        self._followed: set[object] = set()
        self._inputs_checked: set[tuple[str, int]] = set()
        self._probed: set[tuple[str, str]] = set()
        self._processes = {process.id: process for process in info.processes}
        for slot in slots:
            self._register(slot)

    def run(self) -> None:
        """Bring every open case to its end, and write each observation as it is made."""
        for slot in self._slots:
            self._guarded(slot, self._check_golden, slot)
        self._progress.begin(sum(self._to_do(one) for one in self._active()))
        for slot in self._slots:
            self._guarded(slot, self._open_all, slot)
        number = 0
        while self._unfinished():
            self._round(number)
            number += 1
        for one in self._active():
            self._guarded(one.slot, self._follow, one)
        for one in shuffled(self._active(), self.info.schedule_seed, -1):
            self._guarded(one.slot, self._finish, one)
        for slot in self._slots:
            self._retire(slot)
        self.info = msgspec.structs.replace(self.info, finished=now())
        self._write_info()

    def restore(self, run: Run) -> None:
        """Give the slots what an earlier, unfinished start of this run has recorded."""
        ended: list[TrainingRecord | Failure] = [*run.trainings, *run.failures]
        done = {(record.case.id, slot_of(record.process)) for record in ended}
        for slot in self._slots:
            slot.active = [x for x in slot.active if (x.case.id, slot.name) not in done]
        self._followed = {followed_key(line) for line in run.float64}
        self._inputs_checked = {(line.process, line.seed) for line in run.golden_inputs}
        active = {(one.case.id, one.slot.name): one for one in self._active()}
        for line in run.epochs:
            one = active.get((line.case, slot_of(line.process)))
            if one:
                (one.warmup if line.warmup else one.timed).append(line)

    def _check_golden(self, slot: ProcessSlot) -> None:
        """Have each of the slot's devices run the universal training and the exact probes."""
        self._blamed = None
        for device in sorted({one.case.device for one in slot.active}):
            found = golden_of(slot, device)
            if not unanswered(found):
                found = msgspec.structs.replace(found, probes=self._probe(slot, device))
            record = self._processes[slot.process_id]
            golden = {**record.golden, device: found}
            self._processes[record.id] = msgspec.structs.replace(record, golden=golden)
            if error := unanswered(found):
                require_working(slot, device, error)
        self._write_info()
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
            self._store.append("golden_inputs.jsonl", line)

    # One round

    def _round(self, number: int) -> None:
        """Process after process in this round's order, one epoch of each of its trainings.

        The first task after a process switch runs with cold caches and loses up to a millisecond,
        which is a larger share of a short calibration workload than of an epoch. So each process's
        turn begins with a calibration whose time is not kept; the others are shuffled among the
        trainings.
        """
        for slot in shuffled(self._slots, self.info.schedule_seed, number):
            open_now = [one for one in self._unfinished() if one.slot is slot]
            keys = sorted({calibration_key(one.case) for one in open_now})
            calibrations = [Timing(slot, key) for key in keys]
            for timing in calibrations:
                self._guarded(slot, self._calibration, timing)
            acts: list[ActiveTraining | Timing] = [*open_now, *calibrations * CALIBRATIONS_A_ROUND]
            for act in shuffled(acts, self.info.schedule_seed, number, slot.name):
                if isinstance(act, Timing):
                    self._guarded(slot, self._time_calibration, act)
                elif act in slot.active:
                    self._guarded(slot, self._step, act)
        self._sample_conditions()

    def _sample_conditions(self) -> None:
        processes = [slot.process.popen.pid for slot in self._slots if slot.process]
        system_samples = self._watch.sample(processes)
        if system_samples:
            self._store.append("system_samples.jsonl", system_samples)

    def _time_calibration(self, timing: Timing) -> None:
        seconds = self._calibration(timing)
        if seconds is not None:
            latest = timing.slot.calibrations.setdefault(
                timing.key, deque(maxlen=CALIBRATIONS_A_ROUND)
            )
            latest.append(seconds)

    def _calibration(self, timing: Timing) -> float | None:
        """Seconds of one calibration; None where no training is left that it would serve."""
        self._blamed = None
        slot, key = timing.slot, timing.key
        served = [
            x for x in self._unfinished() if x.slot is slot and calibration_key(x.case) == key
        ]
        if not served:
            return None
        try:
            asked = self._clock()
            seconds: float = slot.ask("calibration", device=key[0], kind=key[1])["calibration_s"]
            waited_s = self._clock() - asked
            require_possible(seconds, "the calibration workload")
        except OperationFailed as error:
            require_working(slot, key[0], str(error))
            for one in served:
                self._fail(one, f"the calibration workload: {error}", check_of(error))
            return None
        gap = (waited_s - seconds, seconds)
        slot.calibration_gaps[key] = min(gap, slot.calibration_gaps.get(key, gap))
        return seconds

    def _step(self, one: ActiveTraining) -> None:
        if not one.slot.process or not one.slot.process.alive():
            self._blamed = None  # it died between two requests: this case did nothing
            raise self._death_between(one.slot)
        if calibration_key(one.case) not in one.slot.calibrations:
            self._time_calibration(Timing(one.slot, calibration_key(one.case)))
        line = self._epoch(one, one.timed, one.handle)
        line = msgspec.structs.replace(line, calibration_s=one.slot.calibration_s(one.case))
        self._store.append("epochs.jsonl", line)
        one.timed.append(line)
        self._progress.advance(1)

    def _epoch(self, one: ActiveTraining, before: Sequence[EpochLine], handle: int) -> EpochLine:
        """Have one epoch trained, and time the answer; raises `ImpossibleTime`."""
        asked = self._clock()
        answer = self._ask(one, "step", training=handle)
        answered = self._clock()
        require_possible(answer["epoch_s"], f"epoch {len(before)}")
        return EpochLine(
            process=one.slot.process_id,
            case=one.case.id,
            epoch=len(before),
            calibration_s=None,
            waited_s=answered - asked,
            at_s=answered - self._began,
            **answer,
        )

    def _death_between(self, slot: ProcessSlot) -> ProcessDied:
        try:
            slot.ask("usage")
        except ProcessDied as death:
            return death
        return ProcessDied("closed its pipe")

    # Opening, and opening again

    def _open_all(self, slot: ProcessSlot) -> None:
        for one in shuffled(slot.active, self.info.schedule_seed, -2):
            if one in slot.active:
                self._try(one, self._warm_up, one)
        for one in list(slot.active):
            self._try(one, self._open, one)
        self._blamed = None
        peak = slot.ask("usage")["peak_rss_bytes"]
        record = self._processes[slot.process_id]
        self._processes[record.id] = msgspec.structs.replace(record, opened_rss_bytes=peak)

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
                self._require_same(one.warmup[epoch], line.digest, "warm-up epoch")
            else:
                self._store.append("epochs.jsonl", line)
                one.warmup.append(line)
                self._progress.advance(1)
        self._ask(one, "close", training=handle)

    def _open(self, one: ActiveTraining) -> None:
        """Open the timed training and bring it to where its record ends."""
        answer = self._open_twin(one, "timed")
        one.handle, one.inputs_sha256 = answer["training"], answer["inputs_sha256"]
        for recorded in one.timed:
            self._require_same(recorded, self._ask(one, "step")["digest"], "epoch")

    @staticmethod
    def _require_same(recorded: EpochLine, seen: str, what: str) -> None:
        if seen != recorded.digest:
            raise OperationFailed(
                f"after a restart, {what} {recorded.epoch} gave digest {seen[:16]},"
                f" recorded was {recorded.digest[:16]}"
            )

    def _open_twin(self, one: ActiveTraining, phase: str) -> dict[str, Any]:
        self._blamed = one
        faults = [f for f in self._faults if f.hits(one.case, one.slot.index, phase)]
        answer = one.slot.ask(
            "open",
            case=to_dict(one.case),
            recipe=to_dict(self.info.recipe),
            faults=[fault.to_dict() for fault in faults],
        )
        if one.startup_s is None:
            one.startup_s = answer["startup_s"]
        return answer

    # The end of a training

    def _follow(self, one: ActiveTraining) -> None:
        """Have the training followed once in double precision, if it has not been and can be."""
        self._blamed = None
        key = followed_key(one)
        weights = [line.weights for line in one.timed]
        if key in self._followed or float64_refusal(one.case) or None in weights:
            return
        case, recipe = to_dict(one.case), to_dict(self.info.recipe)
        rate = self.info.recipe.learning_rate(one.case.batch_size)  # not as the process has it
        try:
            answer = one.slot.ask("float64", case=case, recipe=recipe, rate=rate, weights=weights)
        except OperationFailed as error:  # the training is sound all the same; its check stays open
            self._progress.note(f"{one.case.id}: not followed in double precision: {error}")
            return
        self._followed.add(key)
        if answer["followed"]:
            self._store.append("float64.jsonl", float64_record(one, answer["followed"]))

    def _finish(self, one: ActiveTraining) -> None:
        """Have the trained model scored, saved and loaded, and record the training as one line."""
        answer = self._ask(one, "finish", with_state=self.info.save_weights)
        state = answer.pop("state", None)
        if state is not None:
            name = f"weights/{one.slot.name}-{one.case.id}.pt"
            self._store.write_bytes(name, base64.b64decode(state))
        self._store.append("results.jsonl", training_record(one, answer))
        one.slot.active.remove(one)

    # What goes wrong

    def _ask(self, one: ActiveTraining, op: str, **args: Any) -> dict[str, Any]:
        self._blamed = one
        return one.slot.ask(op, **{"training": one.handle, **args})

    def _try(
        self, one: ActiveTraining, act: Callable[[Any], object], target: ActiveTraining
    ) -> None:
        """Do it; where the operation fails, the case fails and the process goes on."""
        try:
            act(target)
        except OperationFailed as error:
            require_working(one.slot, one.case.device, str(error))
            self._fail(one, str(error), check_of(error))

    def _guarded(self, slot: ProcessSlot, act: Callable[[Any], object], target: Any) -> None:
        """Do it; where the process dies of it, replace the process and let the rest go on."""
        try:
            if isinstance(target, ActiveTraining):
                self._try(target, act, target)
            else:
                act(target)
        except OperationFailed as error:
            self._fail_all(slot, str(error))
        except ProcessDied as death:
            self._record_death(slot, death)
            self._restart(slot)

    def _record_death(self, slot: ProcessSlot, death: ProcessDied) -> None:
        """Record the death, and fail the case that the process was busy with."""
        self._note_death(slot, str(death))
        one, self._blamed = self._blamed, None
        if one is None or one not in slot.active:
            slot.idle_deaths += 1
            return
        self._fail(one, f"process {slot.process_id} died: {death}")
        self._kills[one.case.id] += 1
        if self._kills[one.case.id] >= KILLS_ALLOWED:
            for other in [x for x in self._active() if x.case == one.case]:
                self._fail(other, f"not tried again: it has killed {KILLS_ALLOWED} processes")

    def _restart(self, slot: ProcessSlot) -> None:
        """Fill the slot with a fresh process and reopen what was open, as often as it takes."""
        while slot.active:
            if slot.idle_deaths > IDLE_DEATHS_ALLOWED:
                self._fail_all(slot, f"its process died {slot.idle_deaths} times while idle")
                return
            try:
                slot.launch(self._start)
                slot.configured()
                self._register(slot)
                self._fail_without_device(slot)
                self._open_all(slot)
                return
            except OperationFailed as error:
                self._fail_all(slot, str(error))
            except ProcessDied as death:
                self._record_death(slot, death)

    def _fail_without_device(self, slot: ProcessSlot) -> None:
        """Fail the cases whose device does not work in a fresh process either."""
        self._blamed = None
        devices = list(dict.fromkeys(one.case.device for one in slot.active))
        reasons = slot.ask("probe", devices=devices)
        for one in list(slot.active):
            if reason := reasons[one.case.device]:
                self._fail(one, reason)

    def _fail_all(self, slot: ProcessSlot, reason: str) -> None:
        for one in list(slot.active):
            self._fail(one, reason)

    def _fail(self, one: ActiveTraining, reason: str, check: str = "completion") -> None:
        self._progress.note(f"{one.case.id}: {reason}")
        self._progress.advance(self._to_do(one))
        failure = Failure(
            case=one.case,
            process=one.slot.process_id,
            config=one.slot.config.id,
            epochs=len(one.timed),
            failed=reason,
            check=check,
        )
        self._store.append("results.jsonl", failure)
        one.slot.active.remove(one)

    # Bookkeeping

    def _active(self) -> list[ActiveTraining]:
        return [one for slot in self._slots for one in slot.active]

    def _unfinished(self) -> list[ActiveTraining]:
        epochs = self.info.recipe.epochs
        return [one for one in self._active() if len(one.timed) < epochs]

    def _to_do(self, one: ActiveTraining) -> int:
        """Epochs that this training still has to go."""
        warmup = 0 if one.timed else self.info.warmup_epochs - len(one.warmup)
        return warmup + self.info.recipe.epochs - len(one.timed)

    def _register(self, slot: ProcessSlot) -> None:
        record = ProcessRecord(
            id=slot.process_id, config=slot.config, index=slot.index, machine=slot.machine
        )
        self._processes[record.id] = record
        self._write_info()

    def _note_death(self, slot: ProcessSlot, reason: str) -> None:
        record = self._processes.get(slot.process_id) or ProcessRecord(
            id=slot.process_id, config=slot.config, index=slot.index, machine={}
        )
        self._processes[record.id] = msgspec.structs.replace(record, died=reason)
        self._write_info()

    def _retire(self, slot: ProcessSlot) -> None:
        """Ask for the peak memory, then let the process go."""
        if slot.process is None or not slot.process.alive():
            return
        try:
            usage = slot.ask("usage")
        except (ProcessDied, OperationFailed) as error:
            self._note_death(slot, str(error))
        else:
            record = self._processes[slot.process_id]
            gaps = {", ".join(key): gap for key, gap in slot.calibration_gaps.items()}
            self._processes[record.id] = msgspec.structs.replace(
                record, calibration_gaps_s=gaps, **usage
            )
        slot.process.stop()

    def _write_info(self) -> None:
        self.info = msgspec.structs.replace(self.info, processes=list(self._processes.values()))
        self._store.write_info(self.info)


def require_working(slot: ProcessSlot, device: str, error: str) -> None:
    """Raise `ProcessDied` where the device no longer works in the slot's process after an error.

    Such an error stays: whatever is asked next of the device, it fails with the same message. The
    process is ended, so that no other case is blamed.
    """
    if device_type(device) == "cpu" or not slot.ask("probe", devices=[device])[device]:
        return
    if slot.process:
        slot.process.kill()
    raise ProcessDied(f"{device} did not work any more after {error}")


def unanswered(golden: Golden) -> str:
    """The error in place of what the device gives; empty where it gave something everywhere."""
    errors = (_error_in(golden.arithmetic), *map(unanswered_probe, golden.probes))
    return next(filter(None, errors), "")


def unanswered_probe(found: ProbeRecord) -> str:
    """The error in place of what a probe finds; empty where it came to its end."""
    return _error_in(found.wrong)


def _error_in(facts: Sequence[Fact]) -> str:
    return next((fact.actual for fact in facts if fact.what == GOLDEN_OPERATION), "")


GOLDEN_OPERATION: Final = "the operation"


def golden_of(slot: ProcessSlot, device: str) -> Golden:
    """What the device gives where the right answer is known; that it gives none is a fact too."""
    try:
        return msgspec.convert(slot.ask("universal", device=device), Golden)
    except OperationFailed as error:
        none = [_no_answer(error)]
        return Golden(arithmetic=none, universal=none)


def probe_of(slot: ProcessSlot, device: str, probe: str) -> ProbeRecord:
    """What one exact probe finds on the device; that it does not come to its end is a fact too."""
    try:
        return msgspec.convert(slot.ask("exact probe", device=device, probe=probe), ProbeRecord)
    except OperationFailed as error:
        return ProbeRecord(probe=probe, checked=0, wrong=[_no_answer(error)])


def _no_answer(error: OperationFailed) -> Fact:
    return Fact(what=GOLDEN_OPERATION, expected="comes to its end", actual=str(error))


def golden_inputs_of(slot: ProcessSlot, recipe: Recipe, seed: int) -> GoldenInputs:
    """What the process draws for a seed; that it draws nothing is a fact too."""
    try:
        answer = slot.ask("golden inputs", recipe=to_dict(recipe), seed=seed)
    except OperationFailed as error:
        none = {"what": "the operation", "expected": "comes to its end", "actual": str(error)}
        answer = {"seed": seed, "inputs_sha256": {}, "facts": [none]}
    return msgspec.convert({"process": slot.process_id, **answer}, GoldenInputs)


def followed_key(one: ActiveTraining | Float64Reference) -> tuple[object, ...]:
    """What two trainings must share to have one line of `float64.jsonl`."""
    if isinstance(one, ActiveTraining):
        return float64_key(one.case), epoch_digests_sha256(one.epoch_digests)
    return tuple(one.key), one.epochs_sha256


def float64_record(one: ActiveTraining, followed: dict[str, Any]) -> Float64Reference:
    """The line of a training that was followed in double precision."""
    return msgspec.convert(
        {
            "process": one.slot.process_id,
            "case": one.case.id,
            "key": float64_key(one.case),
            "epochs_sha256": epoch_digests_sha256(one.epoch_digests),
            **followed,
        },
        Float64Reference,
    )


def require_possible(seconds: float | None, what: str) -> None:
    """Raise `ImpossibleTime` for a time that is not above zero."""
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        shown = "no number" if seconds is None else f"{seconds:.3g} s"
        raise ImpossibleTime(f"{what} took {shown} by the process's clock")


def check_of(error: OperationFailed) -> str:
    """The check that fails with the error."""
    return "clock" if isinstance(error, ImpossibleTime) else "completion"


def training_record(one: ActiveTraining, answer: dict[str, Any]) -> TrainingRecord:
    """The line of a finished training, from what was observed and what `finish` answered."""
    train, test, again = answer["train"], answer["test"], answer["reloaded_test"]
    values = {
        "case": one.case,
        "process": one.slot.process_id,
        "config": one.slot.config.id,
        "epoch_s": [line.epoch_s for line in one.timed],
        "calibration_s": [line.calibration_s for line in one.timed],
        "losses": [line.loss for line in one.timed],
        "epoch_digests": one.epoch_digests,
        "warmup_epoch_s": [line.epoch_s for line in one.warmup],
        "warmup_epoch_digests": [line.digest for line in one.warmup],
        "inputs_sha256": one.inputs_sha256,
        "weights_sha256": answer["weights_sha256"],
        "train": _count(train),
        "test": _count(test),
        "predictions": test["predictions"],
        "reloaded_sha256": answer["reloaded_sha256"],
        "reloaded_test": _count(again),
        "reloaded_predictions": again["predictions"],
        "accelerator_peak_bytes": answer["accelerator_peak_bytes"],
        "accelerator_grown_bytes": answer["accelerator_grown_bytes"],
        "weights": answer["weights"],
        "startup_s": one.startup_s,
        "golden": answer.get("golden", []),
    }
    return msgspec.convert(values, TrainingRecord)


def _count(score: dict[str, Any]) -> Count:
    return Count(correct=score["correct"], total=score["total"], not_finite=score["not_finite"])


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def require_same_machine(run: Run, slots: list[ProcessSlot], folder: Path) -> None:
    """Raise `BadFile` where a run cannot be resumed here: its bits would not be comparable."""
    recorded = {
        slot_of(process.id): process.machine for process in run.info.processes if process.machine
    }
    versions = {slot.calibration_version for slot in slots}
    if versions != {run.info.calibration_version}:
        raise BadFile(
            f"{folder / 'run.json'}: timed with calibration version"
            f" {run.info.calibration_version}, here it is {', '.join(map(str, sorted(versions)))}",
            "resume it with the xorbench that began it, or start a new run",
        )
    for slot in slots:
        here = without_names(slot.machine) if run.info.anonymous else slot.machine
        before = recorded.get(slot.name, here)
        for key in SAME_TO_RESUME:
            if before.get(key) != here.get(key):
                raise BadFile(
                    f"{folder / 'run.json'}: recorded with {key} {before.get(key)},"
                    f" here it is {here.get(key)}",
                    "resume it where it was begun, or start a new run",
                )


def untrainable(slot: ProcessSlot, recipe: Recipe, cases: Sequence[Case]) -> list[Skip]:
    """The cases that cannot be trained in the slot's process as they are, each with the reason."""
    devices = list(dict.fromkeys(case.device for case in cases))
    unavailable_reason = slot.ask("probe", devices=devices)
    here = [device for device in devices if not unavailable_reason[device]]
    engines = list(dict.fromkeys(case.engine for case in cases))
    unfit = slot.ask("probe engines", engines=engines, devices=here)
    skips = []
    for case in cases:
        if unavailable_reason[case.device]:
            skips.append(Skip(case=case, skipped=unavailable_reason[case.device]))
        elif reason := unsupported_reason(case, recipe) or unfit[case.engine][case.device]:
            skips.append(Skip(case=case, skipped=reason, lacks="engine"))
    return skips
