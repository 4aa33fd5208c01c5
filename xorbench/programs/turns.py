"""A pair of processes, A and B, that train turn by turn: while one computes, the other is stopped.

Both are alive at the same time, so the load of the machine affects both equally. A turn is one
step, or as many as take `TURN_S`. The order within each pair of turns is random.
"""

import json
import math
import os
import random
import select
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from xorbench.errors import BadFile, why
from xorbench.programs.command_run import StartedRun
from xorbench.records.ended import Ended
from xorbench.records.files import write_whole

TURN_S: Final = 0.02  # a turn takes at least this, so that a switch disturbs it little
TRIAL_TURNS: Final = 3  # pairs of turns of one step, which decide the steps of a turn
MOST_TURNS: Final = 100  # pairs of turns of a pair of processes
REPORTS, GO = "reports", "go"  # the FIFOs of `recorder.turns`
READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a side: its time without the recorder's, and the recorder's own time (s)."""

    steps: int
    seconds: float
    recorder_s: float


@dataclass(slots=True)
class Turns:
    """The turns of a pair of processes.

    Attributes:
        order: the side that went first, per pair of turns.
        turns: the turns per side, in the order of the pairs.
        waiting_cpu_s: the processor time that each side used while it was stopped (s).
        memory_bytes: the memory of each side when it was first stopped.
        conditions: the conditions that both sides share, by name.
        no_pair: why B was not started while A was alive; empty if it was.
    """

    order: list[str] = field(default_factory=list)
    turns: dict[str, list[Turn]] = field(default_factory=lambda: {"A": [], "B": []})
    waiting_cpu_s: dict[str, float] = field(default_factory=lambda: {"A": 0.0, "B": 0.0})
    memory_bytes: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    no_pair: str = ""

    def write(self, path: Path) -> None:
        """Store the turns."""
        write_whole(path, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, path: Path) -> "Turns":
        """Read stored turns; raises `BadFile`."""
        try:
            values = json.loads(path.read_bytes())
            sides = {side: [Turn(**turn) for turn in row] for side, row in values["turns"].items()}
            return cls(**{**values, "turns": sides})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadFile(f"{path}: damaged: {error}") from None

    @property
    def log_ratio(self) -> float | None:
        """The median log ratio of B to A over the pairs of turns; None without a pair."""
        pairs = zip(self.turns["A"], self.turns["B"], strict=True)
        logs = [math.log(b.seconds / a.seconds) for a, b in pairs if a.seconds > 0 < b.seconds]
        return median(logs) if logs else None

    def step_s(self, side: str) -> float:
        """The median time of a step of a side (s)."""
        return median(turn.seconds / turn.steps for turn in self.turns[side])


class NoChannel(Exception):
    """The sides cannot take turns here."""


class Channel:
    """The FIFOs between this process and the recorder of one side; raises `NoChannel`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, mode=0o700)
        self.folder = folder
        try:
            for name in (REPORTS, GO):
                os.mkfifo(folder / name, 0o600)
        except OSError as error:
            raise NoChannel(f"the file system has no FIFOs: {why(error)}") from None
        # opened for both, so that neither side waits for the other to open it
        self.reports = os.open(folder / REPORTS, os.O_RDWR | os.O_CLOEXEC)
        self.go = os.open(folder / GO, os.O_RDWR | os.O_CLOEXEC)
        self._buffer = b""

    def grant(self, steps: int) -> None:
        """Let the training make its next turn."""
        os.write(self.go, b"%d\n" % steps)

    def report(self) -> dict[str, Any] | None:
        """The next report if there is one."""
        if not select.select([self.reports], [], [], 0)[0]:
            return None
        line = os.read(self.reports, READ_BYTES)  # a report is written at once
        report: dict[str, Any] = json.loads(line)
        return report

    def close(self) -> None:
        """Close and remove the FIFOs."""
        os.close(self.reports)
        os.close(self.go)
        shutil.rmtree(self.folder, ignore_errors=True)


class Side:
    """A started training, which is stopped except during its turns."""

    def __init__(self, started: StartedRun, channel: Channel) -> None:
        self.started = started
        self.supervision = started.supervision
        self.channel = channel
        self.waiting_cpu_s = 0.0
        self.memory_bytes = 0
        self.device_fits = True
        self._stopped_cpu_s = 0.0

    @property
    def answer(self) -> Mapping[str, Any] | None:
        """How the run ended; None before its end."""
        return self.supervision.answer

    @property
    def failed(self) -> bool:
        """Whether the run ended with a failure."""
        return self.answer is not None and (
            "why" in self.answer or (self.answer["how"] != "stopped" and self.answer["code"] != 0)
        )

    def end(self) -> Ended:
        """End the run; a run that had not ended counts as stopped."""
        stopped = self.answer is None
        answer = self.supervision.end()
        if stopped and answer["how"] == "abandoned":
            answer = {**answer, "how": "stopped"}
        return self.started.ended(answer)

    def first_turn(self) -> bool:
        """Wait for the end of the first turn, which is not timed; whether there was one."""
        return self._await_turn() is not None

    def turn(self, steps: int) -> Turn | None:
        """Make one turn; None if the run ended in it."""
        reply = self.supervision.resume()
        if reply is None:
            return None
        self.waiting_cpu_s += max(0.0, reply["cpu_s"] - self._stopped_cpu_s)
        self.channel.grant(steps)
        return self._await_turn()

    def _await_turn(self) -> Turn | None:
        """Wait for the report of a turn and stop the training; None if the run ended."""
        while (report := self.channel.report()) is None:
            ready = select.select([self.channel.reports, self.supervision.descriptor], [], [])[0]
            if self.channel.reports not in ready:
                self.supervision.wait()
                return None
        reply = self.supervision.stop()
        if reply is not None:
            self._stopped_cpu_s = reply["cpu_s"]
            self.memory_bytes = self.memory_bytes or reply["memory_bytes"]
        self.device_fits = report.pop("device_used", 0) <= report.pop("device_free", 0)
        return Turn(**report)


def take_turns(sides: Mapping[str, Side], seed: int) -> Turns:
    """Let both make their turns until one ends, or there are `MOST_TURNS` pairs."""
    chance = random.Random(seed)
    turns = Turns(memory_bytes={name: side.memory_bytes for name, side in sides.items()})
    steps = 1
    while len(turns.order) < MOST_TURNS:
        order = chance.sample(list(sides), len(sides))
        made = _pair_of_turns(sides, order, steps)
        if len(made) < len(sides):
            break
        turns.order.append(order[0])
        for name, turn in made.items():
            turns.turns[name].append(turn)
        if len(turns.order) == TRIAL_TURNS and steps == 1:
            steps = _steps_of_turn(turns)
            if steps > 1:
                turns.order, turns.turns = [], {name: [] for name in turns.turns}
    turns.waiting_cpu_s = {name: side.waiting_cpu_s for name, side in sides.items()}
    return turns


def _pair_of_turns(sides: Mapping[str, Side], order: Sequence[str], steps: int) -> dict[str, Turn]:
    """One turn of each. If one ends without a failure, the other may end in the same turn."""
    made: dict[str, Turn] = {}
    for name in order:
        turn = sides[name].turn(steps)
        if turn is not None:
            made[name] = turn
        elif sides[name].failed:
            break
    return made


def _steps_of_turn(turns: Turns) -> int:
    """As many steps as take `TURN_S`, by the mean of both sides."""
    step_s = (turns.step_s("A") + turns.step_s("B")) / 2
    return max(1, math.ceil(TURN_S / step_s)) if step_s > 0 else 1
