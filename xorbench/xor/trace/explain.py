"""`explain`: find the setting that changes the bits by training A with some of B's settings."""

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
    """The options of `explain` for two trainings."""

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
    """The kernel switches that were tried, and those that reproduce the recorded bits."""

    side: str
    tried: list[str]
    giving: list[str]
    untried: list[str]


@dataclass(frozen=True, slots=True)
class ExplainOutcome:
    """The content of `--json`: the settings that differ, the search, and the answer as text."""

    exit_code: int
    trainings: int
    differences: dict[str, tuple[str, str]]
    explanation: Explanation | None = None
    switches: list[SwitchSearch] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)


def explain(request: ExplainRequest, note: Callable[[str], None]) -> ExplainOutcome:
    """Search by training in fresh processes. Raises `BadOption` for an invalid side."""
    a = named(request.root, "A", request.a, request.recipe, request.faults_a)
    b = named(request.root, "B", request.b, request.recipe, request.faults_b)
    with terminable(), tempfile.TemporaryDirectory() as folder:
        return _explained(a, b, _Trainer(Path(folder), request, note))


def _explained(a: TrainingRef, b: TrainingRef, trainer: "_Trainer") -> ExplainOutcome:
    differences = _differences(a, b)
    bits_a, bits_b = trainer.digests(a), trainer.digests(b)
    if bits_b is None or trainer.trained(b) != bits_b:
        answer = ["B cannot be trained or is not reproducible, so it cannot be explained."]
        return ExplainOutcome(INCONCLUSIVE, trainer.count, differences, answer=answer)
    switches = [
        _switch_search(letter, side, trainer)
        for letter, side, bits in (("A", a, bits_a), ("B", b, bits_b))
        if bits is not None and not matches_record(side, bits)
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
    """The conclusion about the settings that differ, from trainings on this machine."""
    if explanation is not None:
        return [described(explanation, differences)]
    if not switches:
        return ["A and B are bitwise identical."]
    return ["Retrained on this machine, A and B are bitwise identical."] if differences else []


def _exit_code(explanation: Explanation | None, switches: Sequence[SwitchSearch]) -> int:
    cut_short = explanation is not None and (
        not explanation.minimal
        or (explanation.cause and explanation.rest and not explanation.rest_gives)
    )
    if cut_short or any(switch_search.untried for switch_search in switches):
        return INCONCLUSIVE
    return CHECK_FAILED if explanation or switches else PASSED


def matches_record(side: TrainingRef, bits: Sequence[str]) -> bool:
    """Whether training on this machine reproduced the recorded bits of a side, if any."""
    inputs, *epochs = bits
    matches = all(epochs[epoch] == digest for epoch, digest in side.epoch_digests.items())
    return matches and side.inputs_sha256 in ("", inputs)


def _switch_search(letter: str, side: TrainingRef, trainer: "_Trainer") -> SwitchSearch:
    """Train a side with each kernel switch whose variable it does not set itself."""
    own = {variable.partition("=")[0] for variable in side.config.env}
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    switches = [s for s in SWITCHES if s.partition("=")[0] not in own and s not in environment]
    tried: list[str] = []
    giving: list[str] = []
    try:
        for switch in switches:
            bits = trainer.attempt(switched(side, switch))
            tried.append(switch)
            giving += [switch] if bits is not None and matches_record(side, bits) else []
    except Exhausted:
        pass
    return SwitchSearch(letter, tried, giving, switches[len(tried) :])


def switched(side: TrainingRef, switch: str) -> TrainingRef:
    """The side with one more environment variable."""
    env = tuple(sorted((*side.config.env, switch)))
    return replace(side, config=replace(side.config, env=env))


def _switch_text(switches: SwitchSearch) -> str:
    """A sentence about the switches that reproduce the recorded bits of a side."""
    bits = f"The recorded bits of {switches.side}"
    if switches.giving:
        changes = ", or ".join(map(_change, switches.giving))
        return f"{bits} are reproduced on this machine with {changes}."
    if switches.tried:
        names = ", ".join(f"env {switch}" for switch in switches.tried)
        return f"{bits} are not reproduced on this machine, not even with {names}."
    return f"{bits} are not reproduced on this machine."


def _change(switch: str) -> str:
    name, _, value = switch.partition("=")
    return f"env {switch} ({os.environ.get(name, UNSET)} → {value})"


class _Trainer:
    """Trains sides in fresh processes, caches the digests, and counts trainings."""

    def __init__(self, folder: Path, request: ExplainRequest, note: Callable[[str], None]) -> None:
        self._start = starter(lambda name: folder / name, request.timeout_s)
        self._most = request.max_trainings
        self._note = note
        self._known: dict[object, Digests | None] = {}
        self.count = 0

    def digests(self, side: TrainingRef) -> Digests | None:
        """The digests of `trained`, cached."""
        key = (side.case, side.config, side.recipe, side.index, tuple(sorted(side.faults)))
        if key not in self._known:
            self._known[key] = self.trained(side)
        return self._known[key]

    def attempt(self, side: TrainingRef) -> Digests | None:
        """The digests, or None if no process can start with the side's config."""
        try:
            return self.digests(side)
        except BadOption:
            return None

    def trained(self, side: TrainingRef) -> Digests | None:
        """The digests of the inputs and of each epoch, or None if the side cannot be trained.

        Raises `Exhausted` after the maximum number of trainings.
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
    """All settings of a side: case, config, recipe, variables and faults."""
    owners = (side.case, side.config, side.recipe)
    variables = (variable.partition("=") for variable in side.config.env)
    return {
        **{name: getattr(owner, name) for owner in owners for name in FIELDS[type(owner)]},
        **{f"env {name}": value for name, _, value in variables},
        **{f"fault {text}": "injected" for text in side.faults},
    }


def _differences(a: TrainingRef, b: TrainingRef) -> dict[str, tuple[str, str]]:
    """The settings that differ, by name, with both values as text."""
    settings_a, settings_b = _settings(a), _settings(b)
    return {
        name: (_shown(name, settings_a), _shown(name, settings_b))
        for name in {**settings_a, **settings_b}
        if settings_a.get(name) != settings_b.get(name)
    }


def _shown(name: str, settings: dict[str, Any]) -> str:
    """The value as text; for an unset variable, the value inherited by a process."""
    if name in settings:
        return short(settings[name]) or UNSET
    if name.startswith("fault "):
        return "none"
    return os.environ.get(name.removeprefix("env "), UNSET)


def mixed(a: TrainingRef, b: TrainingRef, names: Set) -> TrainingRef:
    """A with these settings of B."""
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
