"""The table of faults that a process injects into itself to test the checks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from xorbench.errors import BadOption
from xorbench.options import parse
from xorbench.registry import Registry, implementation
from xorbench.xor.matrix.case import Case, ProcessConfig, variant_id

FaultKind = Literal["training", "process", "burn-in", "collective"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the check that must detect it.

    Attributes:
        name: lower-case letters and `-`.
        about: its effect, and the parameters of `--inject` that it uses.
        kind: its target: one training (selected by `cases=`, `process=` and `phase=`), a whole
            process, the burn-in of `canary`, or the collective of `fleet`.
        inject: `package.module:function`. For a training it takes the
            `xor.training.training.Training` and the `FaultSpec`, for a process only the
            `FaultSpec`; the other kinds are implemented by their target.
        caught_by: the check that must fail; `selftest` requires it.
    """

    name: str
    about: str
    kind: FaultKind
    inject: str
    caught_by: str

    def do(self, *where: Any) -> None:
        """Inject the fault."""
        implementation(self.inject)(*where)


# The damage to element I of a tensor.
DAMAGES: Final = {
    "flip": "bit B is flipped",
    "double": "bits B and B + 1 are flipped",
    "stuck": "bit B is stuck at 1 from then on",
    "random": "a random number is stored",
    "nan": "NaN is stored",
}
# The damaged tensor: TENSOR is the number of a weight, or the hidden layer (0) or the logits (1).
PLACES: Final = {
    "weight": "of weight TENSOR after step S of epoch E",
    "gradient": "of gradient TENSOR before the optimizer's step S of epoch E",
    "activation": "of activation TENSOR in step S of epoch E",
    "batch": "of the points of batch S of epoch E",
    "data": "of the training points before training",
}


# Name, effect, and the check that must fail. The injecting function has the name of the fault.
_TRAINING: Final = (
    ("crash", "a segmentation fault at the start of epoch E", "completion"),
    ("hang", "epoch E never ends", "completion"),
    ("delay", "every epoch from E takes MS milliseconds or PERCENT per cent longer", "compare"),
    ("slow-loader", "each batch of the loader is delayed by MS milliseconds", "compare"),
    ("slow-optimizer", "each step of the optimizer takes MS milliseconds longer", "compare"),
    ("unpinned", "each batch is copied to memory that is not page-locked", "pinned memory"),
    ("grow", "each epoch from E on leaks MIB mebibytes of memory", "memory"),
    ("skip-batch", "batch S of epoch E is skipped", "rerun"),
    ("repeat-batch", "batch S of epoch E is trained on twice", "rerun"),
    ("swap-batches", "batches S and S + 1 of epoch E are swapped", "rerun"),
    ("flip-label", "label I of batch S of epoch E is inverted", "rerun"),
    ("keep-gradients", "zero_grad is skipped in step S of epoch E", "rerun"),
    ("other-lr", "from step S of epoch E the learning rate is PERCENT per cent higher", "rerun"),
    ("draw-extra", "the shuffle generator advances once too often before epoch E", "rerun"),
    ("pin-draws", "pinned batches advance the shuffle generator", "invariance"),
    ("drop-ignored", "drop_last has no effect", "invariance"),
    ("race", "after each step from epoch E on, a weight depends on a thread's timing", "rerun"),
    (
        "worker-noise",
        "fetching adds noise from the generator of the fetching process",
        "invariance",
    ),
    ("reload-flip", "the loaded weights have one bit flipped", "save and load"),
    ("slow-clock", "its clock is PERCENT per cent slow", "clock"),
    ("stopped-clock", "its clock stops in epoch E", "clock"),
    ("backward-clock", "its clock jumps back by a second in epoch E", "clock"),
)
_PROCESS: Final = (
    ("flush-subnormals", "the whole process flushes subnormal numbers to zero", "arithmetic"),
    ("scaled-tanh", "tanh is PPB parts per billion too large", "accuracy of arithmetic"),
    ("other-order", "randperm swaps its first two elements", "golden inputs"),
    ("other-tanh", "the universal training uses the library's tanh", "universal"),
    ("slow", "every epoch and every calibration takes PERCENT per cent longer", "compare"),
    ("flip-product", "in every STEP-th matrix product, bit B of element I is flipped", "matmul"),
    ("wrong-product", "bit B of element I of every matrix product is stuck at 1", "matmul"),
)
# Implemented by the burn-in.
_BURN_IN: Final = (
    ("flip-model", "in round E of the burn-in, bit B of model I's last weight is flipped"),
    ("flip-memory", "in round E of the burn-in, bit B of word I of the memory is flipped"),
)


def _tensor_faults() -> Iterator[Fault]:
    for place, place_text in PLACES.items():
        caught_by = "inputs" if place == "data" else "rerun"
        for damage, damage_text in DAMAGES.items():
            about = f"{damage_text} in element I {place_text}"
            path = "xorbench.xor.training.faults:tensor_damage"
            yield Fault(f"{damage}-{place}", about, "training", path, caught_by)


def _named_faults(
    kind: FaultKind, module: str, rows: Iterable[tuple[str, str, str]]
) -> Iterator[Fault]:
    for name, about, caught_by in rows:
        yield Fault(name, about, kind, f"{module}:{name.replace('-', '_')}", caught_by)


FAULTS: Final = Registry(
    "faults",
    Fault,
    (
        *_tensor_faults(),
        *_named_faults("training", "xorbench.xor.training.faults", _TRAINING),
        *_named_faults("process", "xorbench.process.faults", _PROCESS),
        *(
            Fault(name, about, "burn-in", "xorbench.machine.probes.burn:DeviceBurnIn", "burn-in")
            for name, about in _BURN_IN
        ),
        Fault(
            "flip-collective",
            "bit B of element I of a rank's result of each all_reduce is flipped",
            "collective",
            "xorbench.machine.probes.collective:check",
            "collective",
        ),
    ),
)
PHASES: Final = ("timed", "warm-up", "both")
_NUMBERS: Final = dict.fromkeys(("epoch", "step", "tensor", "element", "bit"), 0) | {
    "ms": 10,
    "percent": 100,
    "mib": 32,
    "ppb": 100_000,
}


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One injected fault with its parameters, and its cases, processes and phases.

    `cases` is a pattern for the id of a case, with or without its config. `process` is the index of
    a process within its config; None means all of them.
    """

    name: str
    numbers: dict[str, int] = field(default_factory=dict)
    cases: str = "*"
    process: int | None = None
    phase: str = "timed"

    @property
    def kind(self) -> FaultKind:
        """The target of the fault."""
        return FAULTS[self.name].kind

    def hits(self, case: Case, config: ProcessConfig, process: int, phase: str) -> bool:
        """Whether to inject the fault in this training."""
        names = (case.id, variant_id(case, config))
        return (
            self.kind == "training"
            and any(fnmatchcase(name, self.cases) for name in names)
            and self.process in (None, process)
            and self.phase in (phase, "both")
        )

    def to_dict(self) -> dict[str, Any]:
        """The fault for the protocol of processes, without the selection of trainings."""
        return {"name": self.name, "numbers": self.numbers}

    def number(self, name: str) -> int:
        """A parameter, or its default."""
        return self.numbers.get(name, _NUMBERS[name])


def read_fault(text: str) -> FaultSpec:
    """Read `name` or `name:key=value,…`. Raises `BadOption` for an unknown name or key."""
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
