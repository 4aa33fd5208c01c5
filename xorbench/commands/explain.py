"""`explain`: which setting makes the bits differ, by training with some of B's settings in A."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from xorbench.commands.interrupt import terminable
from xorbench.commands.processes import running, starter
from xorbench.commands.training_ref import TrainingRef, named
from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadOption
from xorbench.judge.explain import Exhausted, Explanation, Gives, Set, described, search
from xorbench.measure import retrain
from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.plan.case import Case, ProcessConfig, short
from xorbench.plan.kernels import SWITCHES
from xorbench.plan.recipe import Recipe

MAX_TRAININGS: Final = 100
FIRST_TRAININGS: Final = 3  # A, B, and B again
UNSET: Final = "unset"

Digests = list[str]


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Two sides as the command line names them, and how many trainings may be done."""

    a: str
    b: str
    recipe: Recipe
    root: Path = Path("results")
    timeout_s: float = 120.0
    max_trainings: int = MAX_TRAININGS
    faults_a: tuple[str, ...] = ()
    faults_b: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchSearch:
    """Which kernel switches make recorded bits come out here, of those that were tried."""

    side: str
    tried: list[str]
    giving: list[str]
    untried: list[str]


@dataclass(frozen=True, slots=True)
class ExplainOutcome:
    """What differs, what was found of it, the answer in words, trainings, exit code."""

    values: dict[str, tuple[str, str]]
    answer: list[str]
    trainings: int
    exit_code: int
    explanation: Explanation | None = None
    switches: list[SwitchSearch] = field(default_factory=list)


def explain(request: ExplainRequest, note: Callable[[str], None]) -> ExplainOutcome:
    """Search by real trainings, each in a fresh process. Raises `BadOption` for what is no side."""
    a = named(request.root, "A", request.a, request.recipe, request.faults_a)
    b = named(request.root, "B", request.b, request.recipe, request.faults_b)
    with terminable(), tempfile.TemporaryDirectory() as folder:
        return _explained(a, b, _Trainer(Path(folder), request, note))


def _explained(a: TrainingRef, b: TrainingRef, trainer: "_Trainer") -> ExplainOutcome:
    values = _differences(a, b)
    one, other = trainer.digests(a), trainer.digests(b)
    if other is None or trainer.trained(b) != other:
        said = ["B does not train here, or does not repeat its own bits: nothing can explain it."]
        return ExplainOutcome(values, said, trainer.count, INCONCLUSIVE)
    switches = [
        _switch_search(letter, side, trainer)
        for letter, side, here in (("A", a, one), ("B", b, other))
        if here is not None and not on_record(side, here)
    ]
    found = None
    if one != other:
        found = search(list(values), lambda names: _gives(trainer, mixed(a, b, names), one, other))
    answer = [*map(_of_record, switches), *_of_here(found, values, bool(switches))]
    code = _exit_code(found, switches)
    if code == INCONCLUSIVE:
        answer.insert(0, f"Stopped after {trainer.count} trainings (--max-trainings).")
    return ExplainOutcome(values, answer, trainer.count, code, found, switches)


def _gives(trainer: "_Trainer", side: TrainingRef, a: Digests | None, b: Digests) -> Gives:
    """Whose digests this training has."""
    here = trainer.attempt(side)
    return "nothing" if here is None else "B" if here == b else "A" if here == a else "other"


def _of_here(
    found: Explanation | None, values: dict[str, tuple[str, str]], other_record: bool
) -> list[str]:
    """What trainings on this machine say of the settings that differ."""
    if found is not None:
        return [described(found, values)]
    if not other_record:
        return ["A and B have equal bits."]
    return ["Trained here, A and B have equal bits."] if values else []


def _exit_code(found: Explanation | None, switches: Sequence[SwitchSearch]) -> int:
    cut = found is not None and (
        not found.minimal or (found.cause and found.rest and not found.rest_gives)
    )
    if cut or any(one.untried for one in switches):
        return INCONCLUSIVE
    return CHECK_FAILED if found or switches else PASSED


def on_record(side: TrainingRef, here: Digests) -> bool:
    """Whether training here gave what is on record of a side, as far as anything is."""
    inputs, *epochs = here
    kept = all(epochs[epoch] == digest for epoch, digest in side.epoch_digests.items())
    return kept and side.inputs_sha256 in ("", inputs)


def _switch_search(letter: str, side: TrainingRef, trainer: "_Trainer") -> SwitchSearch:
    """Train a side under each kernel switch whose variable it does not set itself."""
    own = {variable.partition("=")[0] for variable in side.config.env}
    left = [one for one in SWITCHES if one.partition("=")[0] not in own and not _is_set(one)]
    tried: list[str] = []
    giving: list[str] = []
    try:
        for switch in left:
            here = trainer.attempt(switched(side, switch))
            tried.append(switch)
            giving += [switch] if here is not None and on_record(side, here) else []
    except Exhausted:
        pass
    return SwitchSearch(letter, tried, giving, left[len(tried) :])


def _is_set(switch: str) -> bool:
    name, _, value = switch.partition("=")
    return os.environ.get(name) == value


def switched(side: TrainingRef, switch: str) -> TrainingRef:
    """The side under one more environment variable."""
    env = tuple(sorted((*side.config.env, switch)))
    return replace(side, config=replace(side.config, env=env))


def _of_record(found: SwitchSearch) -> str:
    """What makes the recorded bits of a side come out here, in words."""
    bits = f"The recorded bits of {found.side}"
    if found.giving:
        return f"{bits} come out here with {', or '.join(map(_change, found.giving))}."
    if found.tried:
        names = ", ".join(f"env {switch}" for switch in found.tried)
        return f"{bits} do not come out here, nor with any of {names}."
    return f"{bits} do not come out here."


def _change(switch: str) -> str:
    name, _, value = switch.partition("=")
    return f"env {switch} ({os.environ.get(name, UNSET)} → {value})"


class _Trainer:
    """Trains sides in fresh processes, none twice unless asked to, and counts."""

    def __init__(self, folder: Path, request: ExplainRequest, note: Callable[[str], None]) -> None:
        self._start = starter(lambda name: folder / name, request.timeout_s)
        self._most = request.max_trainings
        self._note = note
        self._known: dict[object, Digests | None] = {}
        self.count = 0

    def digests(self, side: TrainingRef) -> Digests | None:
        """As `trained`; a training that was done before is not done again."""
        key = (side.case, side.config, side.recipe, side.index, tuple(sorted(side.faults)))
        if key not in self._known:
            self._known[key] = self.trained(side)
        return self._known[key]

    def attempt(self, side: TrainingRef) -> Digests | None:
        """As `digests`; None where no process can start under the side's config."""
        try:
            return self.digests(side)
        except BadOption:
            return None

    def trained(self, side: TrainingRef) -> Digests | None:
        """The digest of the inputs and of each epoch; None where the side cannot be trained.

        Raises `Exhausted` where no more trainings may be done.
        """
        if self.count == self._most:
            raise Exhausted
        self.count += 1
        self._note(f"training {self.count}, of at most {self._most}: {side.variant}")
        slot = side.slot("p0")
        try:
            with running([slot], self._start):
                opened = retrain.open_plain(slot, side.case, side.recipe, side.injected())
                epochs = [retrain.step(slot, opened) for _ in range(side.recipe.epochs)]
                return [opened.inputs_sha256, *epochs]
        except (ProcessDied, OperationFailed):
            return None


def as_dict(found: ExplainOutcome) -> dict[str, Any]:
    """Everything that was found, for programs."""
    explanation = None if found.explanation is None else asdict(found.explanation)
    return {
        "exit_code": found.exit_code,
        "trainings": found.trainings,
        "differences": found.values,
        "explanation": explanation,
        "switches": [asdict(one) for one in found.switches],
        "answer": found.answer,
    }


def _parts(side: TrainingRef) -> dict[str, Any]:
    """Everything of a side that can be set: of case, config and recipe, variables, faults."""
    owners: tuple[Case | ProcessConfig | Recipe, ...] = (side.case, side.config, side.recipe)
    parts = {
        f.name: getattr(owner, f.name)
        for owner in owners
        for f in fields(owner)
        if f.init and f.name != "env"
    }
    parts |= {
        f"env {name}": value for name, _, value in (v.partition("=") for v in side.config.env)
    }
    return parts | {f"fault {text}": "injected" for text in side.faults}


def _differences(a: TrainingRef, b: TrainingRef) -> dict[str, tuple[str, str]]:
    """What is not the same on both sides, by name, with both values as texts."""
    one, other = _parts(a), _parts(b)
    return {
        name: (_shown(name, one), _shown(name, other))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    }


def _shown(name: str, parts: dict[str, Any]) -> str:
    """The value as a text; of a variable that is not named the one that a process inherits."""
    if name in parts:
        return short(parts[name]) or UNSET
    if name.startswith("fault "):
        return "none"
    return os.environ.get(name.removeprefix("env "), UNSET)


def mixed(a: TrainingRef, b: TrainingRef, names: Set) -> TrainingRef:
    """A, with what is named as B has it."""
    parts, others = _parts(a), _parts(b)
    for name in names:
        parts.pop(name, None)
        if name in others:
            parts[name] = others[name]
    env = sorted(f"{n.removeprefix('env ')}={v}" for n, v in parts.items() if n.startswith("env "))
    case = {f.name: parts[f.name] for f in fields(Case) if f.init}
    config = {f.name: parts[f.name] for f in fields(ProcessConfig) if f.init and f.name != "env"}
    recipe = {f.name: parts[f.name] for f in fields(Recipe)}
    return replace(
        a,
        case=Case(**case),
        config=ProcessConfig(**config, env=tuple(env)),
        recipe=Recipe(**recipe),
        faults=tuple(n.removeprefix("fault ") for n in parts if n.startswith("fault ")),
    )
