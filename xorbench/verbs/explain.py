"""`explain`: which setting makes the bits differ, by training with some of B's settings in A."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED
from xorbench.judge.explain import Set, described, smallest
from xorbench.measure import replay
from xorbench.measure.pool import OperationFailed, WorkerDied
from xorbench.plan.case import Case, Setting, short
from xorbench.plan.recipe import Recipe
from xorbench.verbs.sides import Side, named
from xorbench.verbs.workers import running, starter, terminable


@dataclass(frozen=True, slots=True)
class Request:
    """Two settings as the command line names them, and how often each training is tried."""

    a: str
    b: str
    recipe: Recipe
    root: Path = Path("results")
    timeout_s: float = 120.0
    faults_a: tuple[str, ...] = ()
    faults_b: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What differs, the smallest sets that matter, the answer in words, trainings, exit code."""

    values: dict[str, tuple[str, str]]
    found: list[Set]
    answer: list[str]
    trainings: int
    exit_code: int


def explain(request: Request, note: Callable[[str], None]) -> Outcome:
    """Search by real trainings, each in a fresh worker. Raises `BadOption` for what is no side."""
    a = named(request.root, "A", request.a, request.recipe, request.faults_a)
    b = named(request.root, "B", request.b, request.recipe, request.faults_b)
    values = _differences(a, b)
    with tempfile.TemporaryDirectory() as folder, terminable():
        trainer = _Trainer(Path(folder), request.timeout_s, note)
        tape_a, tape_b = trainer.tape(a), trainer.tape(b)
        if tape_b is None or trainer.tape(b) != tape_b:
            said = [
                "B does not train here, or does not repeat itself: nothing available explains it"
            ]
            return Outcome(values, [], said, trainer.count, INCONCLUSIVE)
        if tape_a == tape_b:
            return Outcome(values, [], ["A and B have equal bits"], trainer.count, PASSED)
        found = smallest(list(values), lambda names: trainer.tape(mixed(a, b, names)) == tape_b)
    return Outcome(values, found, list(described(found, values)), trainer.count, CHECK_FAILED)


class _Trainer:
    """Trains sides in fresh workers, and counts."""

    def __init__(self, folder: Path, timeout_s: float, note: Callable[[str], None]) -> None:
        self._start = starter(lambda name: folder / name, timeout_s)
        self._note = note
        self.count = 0

    def tape(self, side: Side) -> list[str] | None:
        """The digest of the inputs and of each epoch; None where the side cannot be trained."""
        self.count += 1
        self._note(f"training {side.subject}")
        slot = side.slot("w0")
        try:
            with running([slot], self._start):
                opened = replay.open_plain(slot, side.case, side.recipe, side.planted())
                tape = [replay.step(slot, opened) for _ in range(side.recipe.epochs)]
                return [opened.inputs_sha256, *tape]
        except (WorkerDied, OperationFailed):
            return None


def _parts(side: Side) -> dict[str, Any]:
    """Everything of a side that can be set: fields of case and setting, variables, faults."""
    owners: tuple[Case | Setting, ...] = (side.case, side.setting)
    parts = {
        f.name: getattr(owner, f.name)
        for owner in owners
        for f in fields(owner)
        if f.init and f.name != "env"
    }
    parts |= {
        f"env {name}": value for name, _, value in (v.partition("=") for v in side.setting.env)
    }
    return parts | {f"fault {text}": "planted" for text in side.faults}


def _differences(a: Side, b: Side) -> dict[str, tuple[str, str]]:
    """What is not the same on both sides, by name, with both values as texts."""
    one, other = _parts(a), _parts(b)
    return {
        name: (_shown(one.get(name)), _shown(other.get(name)))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    }


def _shown(value: Any) -> str:
    return "not set" if value is None else short(value)


def mixed(a: Side, b: Side, names: Set) -> Side:
    """A, with what is named as B has it."""
    parts, others = _parts(a), _parts(b)
    for name in names:
        parts.pop(name, None)
        if name in others:
            parts[name] = others[name]
    env = sorted(f"{n.removeprefix('env ')}={v}" for n, v in parts.items() if n.startswith("env "))
    case = {f.name: parts[f.name] for f in fields(Case) if f.init}
    setting = {f.name: parts[f.name] for f in fields(Setting) if f.init and f.name != "env"}
    faults = tuple(n.removeprefix("fault ") for n in parts if n.startswith("fault "))
    return replace(a, case=Case(**case), setting=Setting(**setting, env=tuple(env)), faults=faults)
