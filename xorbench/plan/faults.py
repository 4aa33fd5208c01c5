"""Faults that a worker can plant in itself on request, to see the checks fail."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from xorbench.errors import BadOption
from xorbench.plan import parse
from xorbench.plan.case import Case

# Each fault with what it does. `workload.faults` holds one function for each of these two;
TRAINING_FAULTS: Final = {
    "crash": "the process gets a segmentation fault at the start of epoch E",
    "hang": "epoch E never ends",
    "delay": "every epoch from E takes MS milliseconds, or PERCENT per cent, more",
    "flip-weight": "after step S of epoch E, bit B of element I of the first weight is flipped",
    "flip-data": "bit B of element I of the training points is flipped before training",
    "skip-batch": "batch S of epoch E is left out",
    "draw-extra": "the shuffle generator is drawn once too often before epoch E",
    "pin-draws": "pinned batches draw from the shuffle generator",
    "drop-ignored": "drop_last does not drop",
    "worker-noise": "fetching adds noise from the generator of whatever process fetches",
    "reload-flip": "the saved weights come back with one bit flipped",
}
PROCESS_FAULTS: Final = {
    "flush-subnormals": "the whole process flushes subnormal numbers to zero",
    "other-tanh": "the universal form is trained with the library's tanh",
    "slow": "every epoch, the yardstick's too, takes PERCENT per cent more",
}
# … and the burn-in of `canary` plants its own.
BURN_FAULTS: Final = {
    "flip-model": "in round E of the burn-in, bit B of model I's last weight is flipped",
}
FAULTS: Final = {**TRAINING_FAULTS, **PROCESS_FAULTS, **BURN_FAULTS}
PHASES: Final = ("timed", "warm-up", "both")
_NUMBERS: Final = {"epoch": 0, "step": 0, "element": 0, "bit": 0, "ms": 10, "percent": 100}


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One planted fault: what, where in the training, and in which cases, repeat and phase."""

    name: str
    numbers: dict[str, int] = field(default_factory=dict)
    cases: str = "*"
    repeat: int | None = None
    phase: str = "timed"

    def hits(self, case: Case, repeat: int, phase: str) -> bool:
        """Whether this training is to be planted with it."""
        return (
            self.name in TRAINING_FAULTS
            and fnmatchcase(case.id, self.cases)
            and self.repeat in (None, repeat)
            and self.phase in (phase, "both")
        )

    def number(self, name: str) -> int:
        """A parameter, or its default."""
        return self.numbers.get(name, _NUMBERS[name])


def read_fault(text: str) -> FaultSpec:
    """Read `name` or `name:key=value,…`; raises `BadOption` for what it does not know."""
    option = "--plant"
    name, _, rest = text.partition(":")
    parse.word(option, name, tuple(FAULTS))
    given: dict[str, str] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or key in given:
            raise BadOption(f"{option}: expected key=value once each, got {pair!r}")
        given[key] = value
    cases = given.pop("cases", "*")
    phase = parse.word(option, given.pop("phase", "timed"), PHASES)
    repeat = given.pop("repeat", None)
    numbers = {
        parse.word(option, key, tuple(_NUMBERS)): parse.integer(option, value, 0, 10_000_000)
        for key, value in given.items()
    }
    number = None if repeat is None else parse.integer(option, repeat, 0, 1_000)
    return FaultSpec(name, numbers, cases, number, phase)
