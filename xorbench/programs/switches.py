"""Switches that may make a training reproducible, each set from outside the program.

Some are environment variables; the others are set by the recorder, within the program's process,
before the program's own code runs (`recorder.switches` has an entry of the same name).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ObservedProgram:
    """The properties of a program, from its first runs, that decide whether a switch applies.

    Attributes:
        variables: its environment variables.
        generators: its global generators, such as `numpy`.
        used: `loader processes` and `compilation`, if it used them.
    """

    variables: Mapping[str, str]
    generators: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()

    @property
    def cuda(self) -> bool:
        """Whether it used a CUDA device."""
        return any(name.startswith("torch cuda") for name in self.generators)


@dataclass(frozen=True, slots=True)
class TrainingSwitch:
    """A switch.

    Attributes:
        name: its name.
        about: its effect.
        write: the code or setting that makes it permanent.
        variables: the environment variables that it sets.
        recorded: whether the recorder also applies it within the program.
        is_seed: whether it only sets a seed, which takes no time.
        idle: why it has no effect on a program; else empty.
    """

    name: str
    about: str
    write: str
    variables: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    recorded: bool = False
    is_seed: bool = False
    idle: Callable[[ObservedProgram], str] = lambda _program: ""


def _hash_seed_is_set(program: ObservedProgram) -> str:
    value = program.variables.get("PYTHONHASHSEED", "random")
    return f"PYTHONHASHSEED is {value}" if value.isdecimal() else ""


def _unless_used(feature: str) -> Callable[[ObservedProgram], str]:
    return lambda program: "" if feature in program.used else f"it uses no {feature}"


TRAINING_SWITCHES: Final = (
    TrainingSwitch(
        "hash-seed",
        "a fixed seed of Python's hashes, so that sets have a fixed order",
        "PYTHONHASHSEED=0 in the environment, or iterate over sorted(…) instead of a set",
        variables={"PYTHONHASHSEED": "0"},
        is_seed=True,
        idle=_hash_seed_is_set,
    ),
    TrainingSwitch(
        "python-seed",
        "a seed for generators of `random` that the program does not seed",
        "random.seed(0), before the first random number",
        recorded=True,
        is_seed=True,
    ),
    TrainingSwitch(
        "numpy-seed",
        "a seed for NumPy's global generator and for each default_rng() without one",
        "numpy.random.seed(0), or default_rng(0)",
        recorded=True,
        is_seed=True,
        idle=lambda program: "" if "numpy" in program.generators else "it does not import NumPy",
    ),
    TrainingSwitch(
        "torch-seed",
        "a seed for PyTorch's generators that the program does not seed",
        "torch.manual_seed(0), before the model is created",
        recorded=True,
        is_seed=True,
    ),
    TrainingSwitch(
        "deterministic",
        "deterministic operators where PyTorch has them",
        "torch.use_deterministic_algorithms(True), on CUDA with CUBLAS_WORKSPACE_CONFIG=:4096:8",
        variables={"CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        recorded=True,
    ),
    TrainingSwitch(
        "no-benchmark",
        "no selection of convolutions by their speed",
        "torch.backends.cudnn.benchmark = False",
        recorded=True,
        idle=lambda program: "" if program.cuda else "it uses no CUDA device",
    ),
    TrainingSwitch(
        "one-thread",
        "one CPU thread for the operators of PyTorch",
        "torch.set_num_threads(1)",
        variables={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        recorded=True,
    ),
    TrainingSwitch(
        "no-loader-processes",
        "data loading in the training process",
        "DataLoader(…, num_workers=0)",
        recorded=True,
        idle=_unless_used("loader processes"),
    ),
    TrainingSwitch(
        "no-compile",
        "no compilation by torch.compile",
        "TORCH_COMPILE_DISABLE=1 in the environment",
        variables={"TORCH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"},
        idle=_unless_used("compilation"),
    ),
)


def variable_switch(name: str, value: str) -> TrainingSwitch:
    """A switch for an environment variable that the user names."""
    text = f"{name}={value}"

    def idle(program: ObservedProgram) -> str:
        return f"{text} is set" if program.variables.get(name) == value else ""

    return TrainingSwitch(
        text, f"the environment variable {name}", f"{text} in the environment", {name: value},
        idle=idle,
    )  # fmt: skip
