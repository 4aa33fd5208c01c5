"""Makes pairs of processes that train turn by turn, until their ratio settles the question."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from xorbench.programs.command_run import CommandRun, StartedRun
from xorbench.programs.command_runs import describe_end
from xorbench.programs.conditions import described
from xorbench.programs.run_maker import RunMaker
from xorbench.programs.turns import Channel, NoChannel, Side, Turns, take_turns
from xorbench.records.cleaning import clean
from xorbench.records.ended import Ended

AFTER_TURNS: Final = "stopped after its turns"


@dataclass(frozen=True, slots=True)
class PairSide:
    """One side of a pair of processes: the name of its command, its records, its settings."""

    command: str
    number: int
    name: str
    label: str
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Pair:
    """A pair of processes: how each ended, and their turns."""

    ends: dict[str, Ended] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)


def make_pair(
    maker: RunMaker,
    commands: Mapping[str, CommandRun],
    sides: Mapping[str, PairSide],
    skip: int,
    seed: int,
) -> Pair:
    """Start the sides in their order, each up to its `skip` first steps, and let them take turns.

    Raises `BadOption`.
    """
    pair = Pair()
    with ExitStack() as stack:
        started: dict[str, Side] = {}
        try:
            for name, side in sides.items():
                command, suffix = commands[side.command], f"-{name.lower()}"
                started[name] = stack.enter_context(_started(maker, command, side, suffix, skip))
                if not _is_ready(name, started, len(sides), pair):
                    break
            else:
                pair.turns = take_turns(started, seed)
        except NoChannel as error:
            pair.turns.no_pair = str(error)
        pair.ends = {name: side.end() for name, side in started.items()}
    for name, ended in pair.ends.items():
        maker.require_called(commands[sides[name].command], ended)
        maker.note(f"{sides[name].label}: {describe_end(ended, AFTER_TURNS)}")
    pair.turns.conditions = described(next(iter(sides.values())).variables)
    return pair


def _is_ready(name: str, started: Mapping[str, Side], count: int, pair: Pair) -> bool:
    """Wait for the end of the first turn of a side; whether the next side can start."""
    side, is_last = started[name], len(started) == count
    if not side.first_turn():
        if side.failed and is_last:
            pair.turns.no_pair = f"{name} failed while the other was alive"
        return False
    pair.turns.no_pair = "" if is_last else _lack_of_memory(name, side)
    return not pair.turns.no_pair


@contextmanager
def _started(
    maker: RunMaker, command: CommandRun, side: PairSide, suffix: str, skip: int
) -> Iterator[Side]:
    """Start one side in a working folder of its own."""
    output = maker.folder / side.name
    try:
        channel = Channel(output.resolve() / "records" / "turns")
        with ExitStack() as stack:
            stack.callback(channel.close)
            options = {
                **maker.options,
                **side.options,
                "level": "clock",
                "step_by": "backward",
                "turns": str(channel.folder),
                "turn_steps": skip + 1,
            }
            run = StartedRun(
                command,
                side.number,
                maker.fresh(suffix),
                output,
                options,
                variables=side.variables,
            )
            stack.callback(run.close)
            yield Side(run, channel)
    finally:
        clean(output, command.words, {**os.environ, **side.variables}, maker.names)


def _lack_of_memory(name: str, side: Side) -> str:
    """Why a second process of this size does not fit; empty if it does."""
    import psutil

    available = psutil.virtual_memory().available
    if side.memory_bytes > available:
        need, free = (round(size / 2**20) for size in (side.memory_bytes, available))
        return f"{name} takes {need} MiB, and {free} MiB are available for a second process"
    return "" if side.device_fits else f"two processes like {name} do not fit on the GPU"
