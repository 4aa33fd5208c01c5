"""Faults that a process injects in itself on request, to see the checks fail."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.plan import parse
from xorbench.plan.case import Case

# What a damage does to element I of a tensor …
DAMAGES: Final = {
    "flip": "bit B is flipped",
    "double": "bits B and B + 1 are flipped",
    "stuck": "bit B is stuck at one from then on",
    "random": "a random number takes the place",
    "nan": "NaN takes the place",
}
# … and where: TENSOR counts the weights, or chooses the hidden layer (0) or the logits (1).
PLACES: Final = {
    "weight": "of weight TENSOR after step S of epoch E",
    "gradient": "of gradient TENSOR before the optimizer's step S of epoch E",
    "activation": "of activation TENSOR in step S of epoch E",
    "batch": "of the points of batch S of epoch E",
    "data": "of the training points before training",
}
TENSOR_FAULTS: Final = {
    f"{damage}-{place}": f"{what} in element I {where}"
    for place, where in PLACES.items()
    for damage, what in DAMAGES.items()
}
# Each fault with what it does. `workload.faults` holds one function for each of these;
TRAINING_FAULTS: Final = {
    **TENSOR_FAULTS,
    "crash": "the process gets a segmentation fault at the start of epoch E",
    "hang": "epoch E never ends",
    "delay": "every epoch from E takes MS milliseconds, or PERCENT per cent, more",
    "grow": "each epoch from E keeps MIB more mebibytes of memory",
    "skip-batch": "batch S of epoch E is left out",
    "repeat-batch": "batch S of epoch E is trained on twice",
    "swap-batches": "batches S and S + 1 of epoch E change places",
    "flip-label": "label I of batch S of epoch E is the other one",
    "keep-gradients": "zero_grad is left out in step S of epoch E",
    "other-lr": "from step S of epoch E the learning rate is PERCENT per cent more",
    "draw-extra": "the shuffle generator is drawn once too often before epoch E",
    "pin-draws": "pinned batches draw from the shuffle generator",
    "drop-ignored": "drop_last does not drop",
    "race": "after each step from E on, a weight depends on how quick a thread was",
    "worker-noise": "fetching adds noise from the generator of whatever process fetches",
    "reload-flip": "the saved weights come back with one bit flipped",
    "slow-clock": "its clock takes PERCENT per cent longer to show a second",
    "stopped-clock": "its clock stands still from epoch E on",
    "backward-clock": "its clock steps back by a second in epoch E",
}
PROCESS_FAULTS: Final = {
    "flush-subnormals": "the whole process flushes subnormal numbers to zero",
    "scaled-tanh": "tanh gives PPB parts per billion more",
    "other-order": "randperm exchanges its first two places",
    "other-tanh": "the universal training takes the library's tanh",
    "slow": "every epoch and every calibration takes PERCENT per cent more",
    "flip-product": "in every STEP-th matrix product, bit B of element I is flipped",
    "wrong-product": "bit B of element I of every matrix product is stuck at one",
}
# … and the burn-in of `canary` injects its own.
BURN_FAULTS: Final = {
    "flip-model": "in round E of the burn-in, bit B of model I's last weight is flipped",
    "flip-memory": "in round E of the burn-in, bit B of word I of the memory is flipped",
}
# … and the collective of `fleet` its own.
COLLECTIVE_FAULTS: Final = {
    "flip-collective": "bit B of element I of what a rank gets of each all_reduce is flipped",
}
FAULTS: Final = {**TRAINING_FAULTS, **PROCESS_FAULTS, **BURN_FAULTS, **COLLECTIVE_FAULTS}
PHASES: Final = ("timed", "warm-up", "both")
_NUMBERS: Final = dict.fromkeys(("epoch", "step", "tensor", "element", "bit"), 0) | {
    "ms": 10,
    "percent": 100,
    "mib": 32,
    "ppb": 100_000,
}


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One injected fault: what, where in the training, and in which cases, processes and phases.

    `process` is the index of a process under its config; None means all of them.
    """

    name: str
    numbers: dict[str, int] = field(default_factory=dict)
    cases: str = "*"
    process: int | None = None
    phase: str = "timed"

    def hits(self, case: Case, process: int, phase: str) -> bool:
        """Whether to inject it in this training."""
        return (
            self.name in TRAINING_FAULTS
            and fnmatchcase(case.id, self.cases)
            and self.process in (None, process)
            and self.phase in (phase, "both")
        )

    def to_dict(self) -> dict[str, Any]:
        """What crosses the pipe to a process: which cases it hits is decided before."""
        return {"name": self.name, "numbers": self.numbers}

    def number(self, name: str) -> int:
        """A parameter, or its default."""
        return self.numbers.get(name, _NUMBERS[name])


def read_fault(text: str) -> FaultSpec:
    """Read `name` or `name:key=value,…`; raises `BadOption` for what it does not know."""
    option = "--inject"
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
    process = given.pop("process", None)
    numbers = {
        parse.word(option, key, tuple(_NUMBERS)): parse.integer(option, value, 0, 10_000_000)
        for key, value in given.items()
    }
    index = None if process is None else parse.integer(option, process, 0, 1_000)
    return FaultSpec(name, numbers, cases, index, phase)
