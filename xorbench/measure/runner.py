"""Run a plan: open every training, advance them round by round, record what is observed.

The whole story is `Runner.run`. What can go wrong on the way — a worker that crashes, hangs or is
killed — costs the case it was stepping, and nothing else: the others are opened again in a fresh
worker and must reproduce their recorded tapes before they go on.
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
from xorbench.measure.conditions import Watch
from xorbench.measure.pool import OperationFailed, Worker, WorkerDied
from xorbench.measure.schedule import shuffled
from xorbench.observe.records import (
    Count,
    EpochLine,
    Fact,
    Failure,
    Float64,
    Golden,
    GoldenInputs,
    Run,
    RunInfo,
    Skip,
    Training,
    WorkerRecord,
    slot_of,
    slots,
    tape_sha256,
)
from xorbench.observe.store import RunStore, without_names
from xorbench.plan.case import Case, Setting, to_dict
from xorbench.plan.engines import form_of, yardstick_of
from xorbench.plan.faults import PROCESS_FAULTS, FaultSpec, read_fault
from xorbench.plan.honour import float64_key, float64_refusal, unable
from xorbench.plan.recipe import Recipe

KILLS_ALLOWED: Final = 2  # a case that has killed this many workers is not tried again
YARDSTICKS_A_ROUND: Final = 3  # one alone wanders by more than the trainings beside it
IDLE_DEATHS_ALLOWED: Final = 3  # deaths that no case is to blame for, in one slot
# What a worker's machine must share with the recorded one before a run is taken up again.
SAME_TO_RESUME: Final = (
    "torch_version", "python_version", "cpu", "cpu_capability", "threads", "devices",
)  # fmt: skip

StartWorker = Callable[[str, Setting], Worker]


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
class Live:
    """A training in progress: its case, its slot, and all that was observed of it so far."""

    case: Case
    slot: "Slot"
    handle: int = 0
    inputs_sha256: str = ""
    startup_s: float | None = None  # of the first opening in its process
    timed: list[EpochLine] = field(default_factory=list)
    warmup: list[EpochLine] = field(default_factory=list)

    @property
    def tape(self) -> list[str]:
        """The digests recorded so far."""
        return [line.digest for line in self.timed]


@dataclass(eq=False, slots=True)
class Slot:
    """One setting × repeat: the worker that fills it now, and its trainings still to be done."""

    name: str
    setting: Setting
    repeat: int
    starts: int = 0
    idle_deaths: int = 0
    worker: Worker | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    yardstick_version: int = 0
    faults: list[FaultSpec] = field(default_factory=list)
    lives: list[Live] = field(default_factory=list)
    yardsticks: dict[tuple[str, str], deque[float]] = field(default_factory=dict)

    @property
    def worker_id(self) -> str:
        """The present worker's id: the slot's name, and which restart it is."""
        return self.name if self.starts <= 1 else f"{self.name}.{self.starts - 1}"

    def yardstick_s(self, case: Case) -> float | None:
        """Median of the last yardsticks of the case's device and kind, about one round's."""
        latest = self.yardsticks.get(yardstick_key(case))
        return median(latest) if latest else None

    def launch(self, start: StartWorker) -> None:
        """Start a process for this slot and have it configured; `configured` then waits for it."""
        self.starts += 1
        self.yardsticks.clear()
        self.worker = start(self.worker_id, self.setting)
        self.worker.post(
            "configure",
            deterministic=self.setting.deterministic,
            threads=self.setting.threads,
            faults=[fault.to_dict() for fault in self.faults],
        )

    def ask(self, op: str, **args: Any) -> dict[str, Any]:
        """Ask this slot's worker; raises `WorkerDied` or `OperationFailed`."""
        if self.worker is None:
            raise WorkerDied("it could not be started")
        return self.worker.ask(op, **args)

    def configured(self) -> None:
        """Wait until the worker is under its setting, and keep what machine it found."""
        if self.worker is None:
            raise WorkerDied("it could not be started")
        answer = self.worker.answer()
        self.machine, self.yardstick_version = answer["machine"], answer["yardstick_version"]


@dataclass(frozen=True, eq=False, slots=True)
class Timing:
    """One timing of a yardstick in a slot: its device and its kind."""

    slot: Slot
    key: tuple[str, str]


def yardstick_key(case: Case) -> tuple[str, str]:
    """Device and kind of the yardstick that a case is held against."""
    return case.device, yardstick_of(case)


def make_slots(settings: Sequence[Setting], repeats: int, faults: Sequence[str] = ()) -> list[Slot]:
    """The empty slots of a run, every setting in every repeat; `faults` are planted as texts."""
    planted = [fault for fault in map(read_fault, faults) if fault.name in PROCESS_FAULTS]
    return [Slot(*row, faults=planted) for row in slots(settings, repeats)]


class Runner:
    """Drives the workers of one run and records what they observe."""

    def __init__(
        self,
        info: RunInfo,
        store: RunStore,
        slots: list[Slot],
        start: StartWorker,
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
        self._blamed: Live | None = None
        self._kills: Counter[str] = Counter()
        self._followed: set[object] = set()
        self._inputs_checked: set[tuple[str, int]] = set()
        self._workers = {worker.id: worker for worker in info.workers}
        for slot in slots:
            self._register(slot)

    def run(self) -> None:
        """Bring every open case to its end, and write each observation as it is made."""
        self._progress.begin(sum(self._to_do(live) for live in self._lives()))
        for slot in self._slots:
            self._guarded(slot, self._hold_to_golden, slot)
        for slot in self._slots:
            self._guarded(slot, self._open_all, slot)
        number = 0
        while self._unfinished():
            self._round(number)
            number += 1
        for live in self._lives():
            self._guarded(live.slot, self._follow, live)
        for live in shuffled(self._lives(), self.info.order_seed, -1):
            self._guarded(live.slot, self._finish, live)
        for slot in self._slots:
            self._retire(slot)
        self.info = msgspec.structs.replace(self.info, finished=now())
        self._write_info()

    def take_up(self, run: Run) -> None:
        """Give the slots what an earlier, unfinished start of this run has recorded."""
        ended: list[Training | Failure] = [*run.trainings, *run.failures]
        done = {(record.case.id, slot_of(record.worker)) for record in ended}
        for slot in self._slots:
            slot.lives = [x for x in slot.lives if (x.case.id, slot.name) not in done]
        self._followed = {followed_key(line) for line in run.float64}
        self._inputs_checked = {(line.process, line.seed) for line in run.golden_inputs}
        lives = {(live.case.id, live.slot.name): live for live in self._lives()}
        for line in run.epochs:
            live = lives.get((line.case, slot_of(line.worker)))
            if live:
                (live.warmup if line.warmup else live.timed).append(line)

    def _hold_to_golden(self, slot: Slot) -> None:
        """Have each of the slot's devices train the universal form, whose digest is known."""
        self._blamed = None
        for device in sorted({live.case.device for live in slot.lives}):
            record = self._workers[slot.worker_id]
            golden = {**record.golden, device: golden_of(slot, device)}
            self._workers[record.id] = msgspec.structs.replace(record, golden=golden)
        self._write_info()
        for seed in sorted({x.case.seed for x in slot.lives if form_of(x.case) == "reference"}):
            self._check_inputs(slot, seed)

    def _check_inputs(self, slot: Slot, seed: int) -> None:
        """Have the process hold what it draws for a seed against NumPy's reading, once."""
        key = (slot.worker_id, seed)
        if key not in self._inputs_checked:
            self._inputs_checked.add(key)
            line = golden_inputs_of(slot, self.info.recipe, seed)
            self._store.append("golden_inputs.jsonl", line)

    # One round

    def _round(self, number: int) -> None:
        """Worker after worker in this round's order, one epoch of each of its trainings.

        What runs first after another process finds cold caches, and loses up to a millisecond: of a
        short yardstick a larger share than of an epoch. So each worker's turn begins with a
        yardstick whose time is not kept; the others stand anywhere among the trainings.
        """
        for slot in shuffled(self._slots, self.info.order_seed, number):
            open_now = [live for live in self._unfinished() if live.slot is slot]
            keys = sorted({yardstick_key(live.case) for live in open_now})
            yardsticks = [Timing(slot, key) for key in keys]
            for timing in yardsticks:
                self._guarded(slot, self._yardstick, timing)
            acts: list[Live | Timing] = [*open_now, *yardsticks * YARDSTICKS_A_ROUND]
            for act in shuffled(acts, self.info.order_seed, number, slot.name):
                if isinstance(act, Timing):
                    self._guarded(slot, self._time_yardstick, act)
                elif act in slot.lives:
                    self._guarded(slot, self._step, act)
        self._look_around()

    def _look_around(self) -> None:
        workers = [slot.worker.process.pid for slot in self._slots if slot.worker]
        conditions = self._watch.look(workers)
        if conditions:
            self._store.append("conditions.jsonl", conditions)

    def _time_yardstick(self, timing: Timing) -> None:
        seconds = self._yardstick(timing)
        if seconds is not None:
            latest = timing.slot.yardsticks.setdefault(timing.key, deque(maxlen=YARDSTICKS_A_ROUND))
            latest.append(seconds)

    def _yardstick(self, timing: Timing) -> float | None:
        """Seconds of one yardstick; None where no training is left that it would serve."""
        self._blamed = None
        slot, key = timing.slot, timing.key
        served = [x for x in self._unfinished() if x.slot is slot and yardstick_key(x.case) == key]
        if not served:
            return None
        try:
            seconds: float = slot.ask("yardstick", device=key[0], kind=key[1])["yardstick_s"]
            require_possible(seconds, "the yardstick")
        except OperationFailed as error:
            for live in served:
                self._fail(live, f"the yardstick: {error}", check_of(error))
            return None
        return seconds

    def _step(self, live: Live) -> None:
        if not live.slot.worker or not live.slot.worker.alive():
            self._blamed = None  # it died between two requests: this case did nothing
            raise self._death_between(live.slot)
        if yardstick_key(live.case) not in live.slot.yardsticks:
            self._time_yardstick(Timing(live.slot, yardstick_key(live.case)))
        line = self._epoch(live, live.timed, live.handle)
        line = msgspec.structs.replace(line, yardstick_s=live.slot.yardstick_s(live.case))
        self._store.append("epochs.jsonl", line)
        live.timed.append(line)
        self._progress.advance(1)

    def _epoch(self, live: Live, before: Sequence[EpochLine], handle: int) -> EpochLine:
        """Have one epoch trained, and time the answer; raises `ImpossibleTime`."""
        asked = self._clock()
        answer = self._ask(live, "step", training=handle)
        answered = self._clock()
        require_possible(answer["epoch_s"], f"epoch {len(before)}")
        return EpochLine(
            worker=live.slot.worker_id,
            case=live.case.id,
            epoch=len(before),
            yardstick_s=None,
            waited_s=answered - asked,
            at_s=answered - self._began,
            **answer,
        )

    def _death_between(self, slot: Slot) -> WorkerDied:
        try:
            slot.ask("usage")
        except WorkerDied as death:
            return death
        return WorkerDied("closed its pipe")

    # Opening, and opening again

    def _open_all(self, slot: Slot) -> None:
        for live in shuffled(slot.lives, self.info.order_seed, -2):
            if live in slot.lives:
                self._try(live, self._warm_up, live)
        for live in list(slot.lives):
            self._try(live, self._open, live)
        self._blamed = None
        peak = slot.ask("usage")["peak_rss_bytes"]
        record = self._workers[slot.worker_id]
        self._workers[record.id] = msgspec.structs.replace(record, opened_rss_bytes=peak)

    def _warm_up(self, live: Live) -> None:
        """Train a throw-away twin for a few epochs; the timed training starts anew."""
        if live.timed:
            return
        handle = self._open_twin(live, "warm-up")["training"]
        seen: list[EpochLine] = []
        for epoch in range(self.info.warmup_epochs):
            line = msgspec.structs.replace(self._epoch(live, seen, handle), warmup=True)
            seen.append(line)
            if epoch < len(live.warmup):
                self._require_same(live.warmup[epoch], line.digest, "warm-up epoch")
            else:
                self._store.append("epochs.jsonl", line)
                live.warmup.append(line)
                self._progress.advance(1)
        self._ask(live, "close", training=handle)

    def _open(self, live: Live) -> None:
        """Open the timed training and bring it to where its record ends."""
        answer = self._open_twin(live, "timed")
        live.handle, live.inputs_sha256 = answer["training"], answer["inputs_sha256"]
        for recorded in live.timed:
            self._require_same(recorded, self._ask(live, "step")["digest"], "epoch")

    @staticmethod
    def _require_same(recorded: EpochLine, seen: str, what: str) -> None:
        if seen != recorded.digest:
            raise OperationFailed(
                f"after a restart, {what} {recorded.epoch} gave digest {seen[:16]},"
                f" recorded was {recorded.digest[:16]}"
            )

    def _open_twin(self, live: Live, phase: str) -> dict[str, Any]:
        self._blamed = live
        faults = [f for f in self._faults if f.hits(live.case, live.slot.repeat, phase)]
        answer = live.slot.ask(
            "open",
            case=to_dict(live.case),
            recipe=to_dict(self.info.recipe),
            faults=[fault.to_dict() for fault in faults],
        )
        if live.startup_s is None:
            live.startup_s = answer["startup_s"]
        return answer

    # The end of a training

    def _follow(self, live: Live) -> None:
        """Have the training followed once in double precision, if it has not been and can be."""
        self._blamed = None
        key = followed_key(live)
        weights = [line.weights for line in live.timed]
        if key in self._followed or float64_refusal(live.case) or None in weights:
            return
        self._followed.add(key)
        case, recipe = to_dict(live.case), to_dict(self.info.recipe)
        answer = live.slot.ask("float64", case=case, recipe=recipe, weights=weights)
        if answer["followed"]:
            self._store.append("float64.jsonl", float64_record(live, answer["followed"]))

    def _finish(self, live: Live) -> None:
        """Have the trained model scored, saved and loaded, and record the training as one line."""
        answer = self._ask(live, "finish", with_state=self.info.save_weights)
        state = answer.pop("state", None)
        if state is not None:
            name = f"weights/{live.slot.name}-{live.case.id}.pt"
            self._store.write_bytes(name, base64.b64decode(state))
        self._store.append("trainings.jsonl", training_record(live, answer))
        live.slot.lives.remove(live)

    # What goes wrong

    def _ask(self, live: Live, op: str, **args: Any) -> dict[str, Any]:
        self._blamed = live
        return live.slot.ask(op, **{"training": live.handle, **args})

    def _try(self, live: Live, act: Callable[[Live], None], target: Live) -> None:
        """Do it; where the operation fails, the case fails and the worker goes on."""
        try:
            act(target)
        except OperationFailed as error:
            self._fail(live, str(error), check_of(error))

    def _guarded(self, slot: Slot, act: Callable[[Any], object], target: Any) -> None:
        """Do it; where the worker dies of it, replace the worker and let the rest go on."""
        try:
            act(target)
        except OperationFailed as error:
            if isinstance(target, Live):
                self._fail(target, str(error), check_of(error))
            else:
                self._fail_all(slot, str(error))
        except WorkerDied as death:
            self._bury(slot, death)
            self._revive(slot)

    def _bury(self, slot: Slot, death: WorkerDied) -> None:
        """Record the death, and fail the case that the worker was busy with."""
        self._note_death(slot, str(death))
        live, self._blamed = self._blamed, None
        if live is None or live not in slot.lives:
            slot.idle_deaths += 1
            return
        self._fail(live, f"worker {slot.worker_id} died: {death}")
        self._kills[live.case.id] += 1
        if self._kills[live.case.id] >= KILLS_ALLOWED:
            for other in [x for x in self._lives() if x.case == live.case]:
                self._fail(other, f"not tried again: it has killed {KILLS_ALLOWED} workers")

    def _revive(self, slot: Slot) -> None:
        """Fill the slot with a fresh worker and reopen what was open, as often as it takes."""
        while slot.lives:
            if slot.idle_deaths > IDLE_DEATHS_ALLOWED:
                self._fail_all(slot, f"its worker died {slot.idle_deaths} times for no case's sake")
                return
            try:
                slot.launch(self._start)
                slot.configured()
                self._register(slot)
                self._open_all(slot)
                return
            except OperationFailed as error:
                self._fail_all(slot, str(error))
            except WorkerDied as death:
                self._bury(slot, death)

    def _fail_all(self, slot: Slot, reason: str) -> None:
        for live in list(slot.lives):
            self._fail(live, reason)

    def _fail(self, live: Live, reason: str, check: str = "completion") -> None:
        self._progress.note(f"{live.case.id}: {reason}")
        self._progress.advance(self._to_do(live))
        failure = Failure(
            case=live.case,
            worker=live.slot.worker_id,
            setting=live.slot.setting.id,
            epochs=len(live.timed),
            failed=reason,
            check=check,
        )
        self._store.append("trainings.jsonl", failure)
        live.slot.lives.remove(live)

    # Bookkeeping

    def _lives(self) -> list[Live]:
        return [live for slot in self._slots for live in slot.lives]

    def _unfinished(self) -> list[Live]:
        epochs = self.info.recipe.epochs
        return [live for live in self._lives() if len(live.timed) < epochs]

    def _to_do(self, live: Live) -> int:
        """Epochs that this training still has to go."""
        warmup = 0 if live.timed else self.info.warmup_epochs - len(live.warmup)
        return warmup + self.info.recipe.epochs - len(live.timed)

    def _register(self, slot: Slot) -> None:
        record = WorkerRecord(
            id=slot.worker_id, setting=slot.setting, repeat=slot.repeat, machine=slot.machine
        )
        self._workers[record.id] = record
        self._write_info()

    def _note_death(self, slot: Slot, reason: str) -> None:
        record = self._workers.get(slot.worker_id) or WorkerRecord(
            id=slot.worker_id, setting=slot.setting, repeat=slot.repeat, machine={}
        )
        self._workers[record.id] = msgspec.structs.replace(record, died=reason)
        self._write_info()

    def _retire(self, slot: Slot) -> None:
        """Ask for the peak memory, then let the worker go."""
        if slot.worker is None or not slot.worker.alive():
            return
        try:
            usage = slot.ask("usage")
        except (WorkerDied, OperationFailed) as error:
            self._note_death(slot, str(error))
        else:
            record = self._workers[slot.worker_id]
            self._workers[record.id] = msgspec.structs.replace(record, **usage)
        slot.worker.stop()

    def _write_info(self) -> None:
        self.info = msgspec.structs.replace(self.info, workers=list(self._workers.values()))
        self._store.write_info(self.info)


def golden_of(slot: Slot, device: str) -> Golden:
    """What the device gives where the right answer is known; that it gives none is a fact too."""
    try:
        return msgspec.convert(slot.ask("universal", device=device), Golden)
    except OperationFailed as error:
        none = [Fact(what="the operation", expected="comes to its end", actual=str(error))]
        return Golden(arithmetic=none, universal=none)


def golden_inputs_of(slot: Slot, recipe: Recipe, seed: int) -> GoldenInputs:
    """What the process draws for a seed; that it draws nothing is a fact too."""
    try:
        answer = slot.ask("golden inputs", recipe=to_dict(recipe), seed=seed)
    except OperationFailed as error:
        none = {"what": "the operation", "expected": "comes to its end", "actual": str(error)}
        answer = {"seed": seed, "inputs_sha256": {}, "facts": [none]}
    return msgspec.convert({"process": slot.worker_id, **answer}, GoldenInputs)


def followed_key(one: Live | Float64) -> tuple[object, ...]:
    """What two trainings must share to have one line of `float64.jsonl`."""
    if isinstance(one, Live):
        return float64_key(one.case), tape_sha256(one.tape)
    return tuple(one.key), one.epochs_sha256


def float64_record(live: Live, followed: dict[str, Any]) -> Float64:
    """The line of a training that was followed in double precision."""
    return msgspec.convert(
        {
            "process": live.slot.worker_id,
            "case": live.case.id,
            "key": float64_key(live.case),
            "epochs_sha256": tape_sha256(live.tape),
            **followed,
        },
        Float64,
    )


def require_possible(seconds: float | None, what: str) -> None:
    """Raise `ImpossibleTime` for a time that is not above zero."""
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        shown = "no number" if seconds is None else f"{seconds:.3g} s"
        raise ImpossibleTime(f"{what} took {shown} by the process's clock")


def check_of(error: OperationFailed) -> str:
    """The check that fails with the error."""
    return "clock" if isinstance(error, ImpossibleTime) else "completion"


def training_record(live: Live, answer: dict[str, Any]) -> Training:
    """The line of a finished training, from what was observed and what `finish` answered."""
    train, test, again = answer["train"], answer["test"], answer["reloaded_test"]
    values = {
        "case": live.case,
        "worker": live.slot.worker_id,
        "setting": live.slot.setting.id,
        "epoch_s": [line.epoch_s for line in live.timed],
        "yardstick_s": [line.yardstick_s for line in live.timed],
        "losses": [line.loss for line in live.timed],
        "tape": live.tape,
        "warmup_epoch_s": [line.epoch_s for line in live.warmup],
        "warmup_tape": [line.digest for line in live.warmup],
        "inputs_sha256": live.inputs_sha256,
        "weights_sha256": answer["weights_sha256"],
        "train": _count(train),
        "test": _count(test),
        "predictions": test["predictions"],
        "reloaded_sha256": answer["reloaded_sha256"],
        "reloaded_test": _count(again),
        "reloaded_predictions": again["predictions"],
        "accelerator_peak_bytes": answer["accelerator_peak_bytes"],
        "weights": answer["weights"],
        "startup_s": live.startup_s,
        "golden": answer.get("golden", []),
    }
    return msgspec.convert(values, Training)


def _count(score: dict[str, Any]) -> Count:
    return Count(correct=score["correct"], total=score["total"], not_finite=score["not_finite"])


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def require_same_machine(run: Run, slots: list[Slot], folder: Path) -> None:
    """Raise `BadFile` where a run cannot be taken up here: its bits would not be comparable."""
    recorded = {slot_of(worker.id): worker.machine for worker in run.info.workers if worker.machine}
    versions = {slot.yardstick_version for slot in slots}
    if versions != {run.info.yardstick_version}:
        raise BadFile(
            f"{folder / 'run.json'}: timed against yardstick {run.info.yardstick_version}, here it"
            f" is {', '.join(map(str, sorted(versions)))}",
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


def untrainable(slot: Slot, recipe: Recipe, cases: Sequence[Case]) -> list[Skip]:
    """The cases that cannot be trained in the slot's worker as they are, each with the reason."""
    devices = list(dict.fromkeys(case.device for case in cases))
    lacking = slot.ask("probe", devices=devices)
    here = [device for device in devices if not lacking[device]]
    engines = list(dict.fromkeys(case.engine for case in cases))
    unfit = slot.ask("probe engines", engines=engines, devices=here)
    skips = []
    for case in cases:
        if lacking[case.device]:
            skips.append(Skip(case=case, skipped=lacking[case.device]))
        elif reason := unable(case, recipe) or unfit[case.engine][case.device]:
            skips.append(Skip(case=case, skipped=reason, lacks="engine"))
    return skips
