"""A dead process costs only its case. The processes are fakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xorbench.records import loading
from xorbench.records.schema.process import DESCRIBED
from xorbench.records.schema.run import RunInfo
from xorbench.records.store import RunStore
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ActiveTraining, ProcessSlot, Progress, RunState, make_slots
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.run.recovery import IDLE_DEATHS_ALLOWED, KILLS_ALLOWED, Recovery

GOOD, DEADLY, THIRD = (Case(seed=seed) for seed in (0, 1, 2))


class FakeProcess:
    """A process that answers every request except those in `dies_of`, and counts its starts."""

    started = 0

    def __init__(self, dies_of: Callable[[str], bool]) -> None:
        type(self).started += 1
        self._dies_of = dies_of

    def post(self, op: str, **_args: Any) -> None:
        """The next answer is to this."""
        self._op = op

    def answer(self) -> dict[str, Any]:
        """The answer of a process, unless it is dead."""
        if self._dies_of(self._op):
            raise ProcessDied("killed by SIGSEGV")
        return {"machine": dict.fromkeys(DESCRIBED, "2"), "calibration_version": 3}

    def alive(self) -> bool:
        """A fake is alive."""
        return True

    def ask(self, op: str, **_args: Any) -> dict[str, Any]:
        """No device is missing."""
        if self._dies_of(op):
            raise ProcessDied("killed by SIGSEGV")
        return {"cpu": None}


class Written:
    """A store that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def append(self, _name: str, record: Any) -> None:
        """Keep a line."""
        self.lines.append(record)

    def write_info(self, _info: Any) -> None:
        """The tests read the state itself."""


@pytest.fixture
def info() -> RunInfo:
    """The info of a run."""
    root = Path(__file__).parent.parent
    return loading.read_info(root / "results" / "reference" / "epyc-2core-cpu")


@pytest.fixture
def written() -> Written:
    """An empty store, before any process is started."""
    FakeProcess.started = 0
    return Written()


def recovery(
    written: Written, info: RunInfo, dies_of: Callable[[str], bool] = lambda _op: False
) -> tuple[Recovery, RunState, list[ProcessSlot], list[str]]:
    """Two slots with three trainings each, and what was reopened in which slot."""
    slots = make_slots([ProcessConfig()], 2)
    for slot in slots:
        slot.starts = 1
        slot.active = [ActiveTraining(case, slot) for case in (GOOD, DEADLY, THIRD)]
    store: Any = written
    state = RunState(info, store, slots, Progress())
    reopened: list[str] = []
    start: Any = lambda _name, _config: FakeProcess(dies_of)  # noqa: E731
    return Recovery(state, start, lambda slot: reopened.append(slot.name)), state, slots, reopened


def die(_target: object) -> None:
    """A step that kills the process."""
    raise ProcessDied("killed by SIGSEGV")


def cases(slot: ProcessSlot) -> list[Case]:
    """The open cases of a slot."""
    return [one.case for one in slot.active]


def test_a_death_costs_the_case_that_was_stepped(written: Written, info: RunInfo) -> None:
    """Its slot gets a fresh process with the others; the other slot is not touched."""
    recovery_, state, (first, second), reopened = recovery(written, info)
    one = first.active[1]

    def step(target: ActiveTraining) -> None:
        recovery_.blamed = target
        die(target)

    recovery_.guarded(first, step, one)
    assert cases(first) == [GOOD, THIRD]
    assert cases(second) == [GOOD, DEADLY, THIRD]
    assert [line.failed for line in written.lines] == ["process p0 died: killed by SIGSEGV"]
    assert (FakeProcess.started, reopened, first.process_id) == (1, ["p0"], "p0.1")
    assert {p.id: p.died for p in state.info.processes}["p0"] == "killed by SIGSEGV"


def test_a_case_that_kills_twice_is_not_tried_again(written: Written, info: RunInfo) -> None:
    """A case that kills two processes fails in every process."""
    recovery_, _, slots, _ = recovery(written, info)

    def step(target: ActiveTraining) -> None:
        recovery_.blamed = target
        die(target)

    for slot in slots[:KILLS_ALLOWED]:
        one = next((x for x in slot.active if x.case == DEADLY), None)
        if one:
            recovery_.guarded(slot, step, one)
    assert [cases(slot) for slot in slots] == [[GOOD, THIRD]] * 2
    assert [line.case for line in written.lines] == [DEADLY] * 2


def test_an_idle_death_costs_no_case(written: Written, info: RunInfo) -> None:
    """After the death of an idle process, all cases continue in a fresh one."""
    recovery_, _, (first, _), reopened = recovery(written, info)
    recovery_.guarded(first, die, None)
    assert cases(first) == [GOOD, DEADLY, THIRD]
    assert (first.idle_deaths, reopened, written.lines) == (1, ["p0"], [])


def test_a_slot_whose_processes_always_die_is_given_up(written: Written, info: RunInfo) -> None:
    """A slot is given up after a few starts, so a run ends on a machine that cannot train."""
    recovery_, _, (first, second), reopened = recovery(written, info, lambda _op: True)
    recovery_.guarded(first, die, None)
    assert cases(first) == []
    assert cases(second) == [GOOD, DEADLY, THIRD]
    assert reopened == []
    assert FakeProcess.started == IDLE_DEATHS_ALLOWED
    reason = f"its process died {IDLE_DEATHS_ALLOWED + 1} times while idle"
    assert {line.failed for line in written.lines} == {reason}


def test_a_refused_operation_costs_its_case_and_no_process(written: Written, info: RunInfo) -> None:
    """A refused operation fails its case, and the process continues."""
    recovery_, _, (first, _), _ = recovery(written, info)

    def refuse(_target: ActiveTraining) -> None:
        raise OperationFailed("ValueError: no")

    recovery_.guarded(first, refuse, first.active[0])
    assert cases(first) == [DEADLY, THIRD]
    assert [line.failed for line in written.lines] == ["ValueError: no"]
    assert FakeProcess.started == 0


def test_a_real_store_accepts_the_lines(info: RunInfo, tmp_path: Path) -> None:
    """A real store accepts the recorded lines."""
    folder = tmp_path / "run"
    folder.mkdir()
    store = RunStore(folder, run=info.id)
    slots = make_slots([ProcessConfig()], 1)
    slots[0].active = [ActiveTraining(GOOD, slots[0])]
    state = RunState(info, store, slots, Progress())
    state.fail(slots[0].active[0], "lost")
    store.close()
    assert '"failed":"lost"' in (folder / "results.jsonl").read_text()


def test_an_early_request_is_answered_once() -> None:
    """An early answer is used once, by the same request to the same process."""
    (slot,) = make_slots([ProcessConfig()], 1)
    start: Any = lambda _name, _config: FakeProcess(lambda _op: False)  # noqa: E731
    slot.ask_ahead("universal", device="cpu")  # nobody is there yet
    slot.launch(start)
    slot.ask_ahead("universal", device="cpu")
    assert "machine" in slot.ask("universal", device="cpu")  # what `answer` gives
    assert slot.ask("probe", devices=["cpu"]) == {"cpu": None}  # what `ask` gives
    slot.ask_ahead("universal", device="cpu")
    assert slot.ask("usage") == {"cpu": None}
    assert slot.ask("usage") == {"cpu": None}
    slot.ask_ahead("universal", device="cpu")
    slot.launch(start)
    assert slot.ask("probe", devices=["cpu"]) == {"cpu": None}
