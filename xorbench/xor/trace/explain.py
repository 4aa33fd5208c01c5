"""`explain`: which setting makes the bits differ, by training with some of B's settings in A."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadOption
from xorbench.machine.kernels import SWITCHES
from xorbench.programs.minimal_set import Exhausted, Explanation, Gives, Set, described, search
from xorbench.runtime.interrupt import terminable
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.start import running, starter
from xorbench.xor.matrix.case import Case, ProcessConfig, short
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.trace.training_ref import TrainingRef, named

MAX_TRAININGS: Final = 100
FIRST_TRAININGS: Final = 3  # A, B, and B again
UNSET: Final = "unset"
FIELDS: Final = {
    owner: [f.name for f in fields(owner) if f.init and f.name != "env"]
    for owner in (Case, ProcessConfig, Recipe)
}

Digests = tuple[str, ...]  # the digest of the inputs, and of each epoch


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
    """Which kernel switches reproduce recorded bits here, of those that were tried."""

    side: str
    tried: list[str]
    giving: list[str]
    untried: list[str]


@dataclass(frozen=True, slots=True)
class ExplainOutcome:
    """What `--json` prints: the settings that differ, the search, and the answer in words."""

    exit_code: int
    trainings: int
    differences: dict[str, tuple[str, str]]
    explanation: Explanation | None = None
    switches: list[SwitchSearch] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)


def explain(request: ExplainRequest, note: Callable[[str], None]) -> ExplainOutcome:
    """Search by real trainings, each in a fresh process. Raises `BadOption` for what is no side."""
    a = named(request.root, "A", request.a, request.recipe, request.faults_a)
    b = named(request.root, "B", request.b, request.recipe, request.faults_b)
    with terminable(), tempfile.TemporaryDirectory() as folder:
        return _explained(a, b, _Trainer(Path(folder), request, note))


def _explained(a: TrainingRef, b: TrainingRef, trainer: "_Trainer") -> ExplainOutcome:
    differences = _differences(a, b)
    bits_a, bits_b = trainer.digests(a), trainer.digests(b)
    if bits_b is None or trainer.trained(b) != bits_b:
        answer = ["B does not train here, or does not repeat its own bits: nothing can explain it."]
        return ExplainOutcome(INCONCLUSIVE, trainer.count, differences, answer=answer)
    switches = [
        _switch_search(letter, side, trainer)
        for letter, side, bits in (("A", a, bits_a), ("B", b, bits_b))
        if bits is not None and not on_record(side, bits)
    ]

    def bits_source(names: Set) -> Gives:
        bits = trainer.attempt(mixed(a, b, names))
        if bits is None:
            return "failure"
        return "B" if bits == bits_b else "A" if bits == bits_a else "neither"

    explanation = search(list(differences), bits_source) if bits_a != bits_b else None
    answer = [*map(_switch_text, switches), *_cause_text(explanation, differences, switches)]
    code = _exit_code(explanation, switches)
    if code == INCONCLUSIVE:
        answer.insert(0, f"Stopped after {trainer.count} trainings (--max-trainings).")
    return ExplainOutcome(code, trainer.count, differences, explanation, switches, answer)


def _cause_text(
    explanation: Explanation | None,
    differences: dict[str, tuple[str, str]],
    switches: Sequence[SwitchSearch],
) -> list[str]:
    """What trainings on this machine show of the settings that differ."""
    if explanation is not None:
        return [described(explanation, differences)]
    if not switches:
        return ["A and B have equal bits."]
    return ["Trained here, A and B have equal bits."] if differences else []


def _exit_code(explanation: Explanation | None, switches: Sequence[SwitchSearch]) -> int:
    cut_short = explanation is not None and (
        not explanation.minimal
        or (explanation.cause and explanation.rest and not explanation.rest_gives)
    )
    if cut_short or any(switch_search.untried for switch_search in switches):
        return INCONCLUSIVE
    return CHECK_FAILED if explanation or switches else PASSED


def on_record(side: TrainingRef, bits: Sequence[str]) -> bool:
    """Whether training here gave the bits on record of a side, as far as there are any."""
    inputs, *epochs = bits
    matches = all(epochs[epoch] == digest for epoch, digest in side.epoch_digests.items())
    return matches and side.inputs_sha256 in ("", inputs)


def _switch_search(letter: str, side: TrainingRef, trainer: "_Trainer") -> SwitchSearch:
    """Train a side under each kernel switch whose variable it does not set itself."""
    own = {variable.partition("=")[0] for variable in side.config.env}
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    left = [s for s in SWITCHES if s.partition("=")[0] not in own and s not in environment]
    tried: list[str] = []
    giving: list[str] = []
    try:
        for switch in left:
            bits = trainer.attempt(switched(side, switch))
            tried.append(switch)
            giving += [switch] if bits is not None and on_record(side, bits) else []
    except Exhausted:
        pass
    return SwitchSearch(letter, tried, giving, left[len(tried) :])


def switched(side: TrainingRef, switch: str) -> TrainingRef:
    """The side under one more environment variable."""
    env = tuple(sorted((*side.config.env, switch)))
    return replace(side, config=replace(side.config, env=env))


def _switch_text(switches: SwitchSearch) -> str:
    """What reproduces the recorded bits of a side here, in words."""
    bits = f"The recorded bits of {switches.side}"
    if switches.giving:
        return f"{bits} come out here with {', or '.join(map(_change, switches.giving))}."
    if switches.tried:
        names = ", ".join(f"env {switch}" for switch in switches.tried)
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
                training = side.opened(slot)
                epochs = [training.step() for _ in range(side.recipe.epochs)]
                return (training.inputs_sha256, *epochs)
        except (ProcessDied, OperationFailed):
            return None


def _settings(side: TrainingRef) -> dict[str, Any]:
    """Everything of a side that can be set: of case, config and recipe, variables, faults."""
    owners = (side.case, side.config, side.recipe)
    variables = (variable.partition("=") for variable in side.config.env)
    return {
        **{name: getattr(owner, name) for owner in owners for name in FIELDS[type(owner)]},
        **{f"env {name}": value for name, _, value in variables},
        **{f"fault {text}": "injected" for text in side.faults},
    }


def _differences(a: TrainingRef, b: TrainingRef) -> dict[str, tuple[str, str]]:
    """The settings that differ, by name, with both values as texts."""
    settings_a, settings_b = _settings(a), _settings(b)
    return {
        name: (_shown(name, settings_a), _shown(name, settings_b))
        for name in {**settings_a, **settings_b}
        if settings_a.get(name) != settings_b.get(name)
    }


def _shown(name: str, settings: dict[str, Any]) -> str:
    """The value as a text; of a variable that is not named the one that a process inherits."""
    if name in settings:
        return short(settings[name]) or UNSET
    if name.startswith("fault "):
        return "none"
    return os.environ.get(name.removeprefix("env "), UNSET)


def mixed(a: TrainingRef, b: TrainingRef, names: Set) -> TrainingRef:
    """A, with these settings as B has them."""
    settings = {name: value for name, value in _settings(a).items() if name not in names}
    settings |= {name: value for name, value in _settings(b).items() if name in names}
    values = {owner: {name: settings[name] for name in FIELDS[owner]} for owner in FIELDS}
    env = sorted(f"{n[4:]}={value}" for n, value in settings.items() if n.startswith("env "))
    return replace(
        a,
        case=Case(**values[Case]),
        config=ProcessConfig(**values[ProcessConfig], env=tuple(env)),
        recipe=Recipe(**values[Recipe]),
        faults=tuple(n.removeprefix("fault ") for n in settings if n.startswith("fault ")),
    )
