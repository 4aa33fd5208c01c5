"""A case is one cell of the matrix; a process config holds the settings of a process."""

import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.xor.matrix.recipe import Recipe

# Device types of torch.accelerator; the type of a private backend is read from PyTorch.
DEVICE_TYPES: Final = ("cpu", "cuda", "hpu", "mps", "mtia", "npu", "xpu")
OPTIMIZERS: Final = ("default", "foreach", "fused")
DTYPES: Final = ("float32", "float64", "bfloat16")
START_METHODS: Final = ("auto", "fork", "forkserver", "spawn")  # of loader workers

_DEVICE = re.compile(r"([a-z][a-z_]*)(:(?:0|[1-9]\d{0,2}))?")
_ASK = "import torch; print(torch._C._get_privateuse1_backend_name())"
_ASK_S: Final = 60.0
BASE_CONFIG: Final = "base"


def read_device(option: str, text: str) -> str:
    """A device in PyTorch's notation, such as `cuda:1`. Raises `BadOption` for an unknown one."""
    match = _DEVICE.fullmatch(text)
    is_known = match and (match[1] in DEVICE_TYPES or match[1] == registered_device_type())
    if not match or not is_known or (match[1] == "cpu" and match[2]):
        raise BadOption(
            f"{option}: unknown device {text!r}", f"one of {', '.join(DEVICE_TYPES)}, or cuda:1"
        )
    return text


@cache
def registered_device_type() -> str | None:
    """The device type of a private backend registered with PyTorch, if any.

    Runs a fresh interpreter, since this one does not import torch.
    """
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            [sys.executable, "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=True,
        )
        name = answer.stdout.strip().rpartition("\n")[2]
        return None if name == "privateuseone" else name
    return None


def device_type(device: str) -> str:
    """The type without the index: `cuda` for `cuda:1`."""
    return device.partition(":")[0]


def with_index(device: str) -> str:
    """The device with its index, as a process uses it: `cuda:0` for `cuda`; `cpu` has none."""
    return device if ":" in device or device == "cpu" else f"{device}:0"


def _marked(default: Any, mark: str = "") -> Any:
    """A field whose value is always part of a case's id, after this mark."""
    return field(default=default, metadata={"mark": mark})


@dataclass(frozen=True, slots=True)
class Case:
    """One training: its device, data loading and seed.

    Its id has the marked fields in order, and the non-default values of the other fields by name,
    so new axes do not change existing ids. `xor.matrix.case_ids` parses it.
    """

    device: str = _marked("cpu")
    engine: str = _marked("loader")
    batch_size: int = _marked(128, "b")
    pin_memory: bool = _marked(False, "pin")
    drop_last: bool = _marked(True, "drop")
    num_workers: int = _marked(0, "w")
    seed: int = _marked(0, "s")
    non_blocking: bool = False
    persistent_workers: bool = False
    optimizer: str = "default"
    dtype: str = "float32"
    tf32: bool = False
    data_on_device: bool = False
    prefetch_factor: int | None = None  # None is PyTorch's default
    multiprocessing_context: str = "auto"
    in_order: bool = True
    id: str = field(init=False, default="", compare=False)

    def __post_init__(self) -> None:
        parts = []
        for setting in (f for f in fields(self) if f.init):
            value = getattr(self, setting.name)
            if "mark" in setting.metadata:
                parts.append(setting.metadata["mark"] + short(value).replace(":", ""))
            elif value != setting.default:
                parts.append(f"{setting.name}={short(value)}")
        object.__setattr__(self, "id", "-".join(parts))


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """The settings of a process. `threads=None` selects PyTorch's default.

    The default is one thread: the work is too small to be split, and on a busy machine more threads
    make every loss a hundred times slower, since OpenMP's threads wait by spinning.

    `python` is `LABEL=PATH` of an interpreter, or None for the interpreter of the harness. `env`
    holds environment variables as `NAME=value`; an empty value unsets the variable.
    """

    deterministic: bool = True
    threads: int | None = 1
    python: str | None = None
    env: tuple[str, ...] = ()
    id: str = field(init=False, default="", compare=False)

    def __post_init__(self) -> None:
        changed = (f for f in fields(self) if f.init and getattr(self, f.name) != f.default)
        parts = [f"{f.name}={short(getattr(self, f.name))}" for f in changed]
        object.__setattr__(self, "id", "+".join(parts) or BASE_CONFIG)


@dataclass(frozen=True, slots=True)
class Variant:
    """A case with a process config and a recipe; the unit of judging."""

    case: Case
    config: ProcessConfig
    recipe: Recipe

    @property
    def id(self) -> str:
        """The case's id, with the config's id unless it is the base config."""
        return variant_id(self.case, self.config)


def variant_id(case: Case, config: ProcessConfig) -> str:
    """The case's id, followed by `@` and the config's id unless it is the base config."""
    return case.id if config.id == BASE_CONFIG else f"{case.id}@{config.id}"


def spelled_out(case: Case, config: ProcessConfig) -> str:
    """The `variant_id` with the path of an interpreter, which can be parsed without a run."""
    python = config.python
    name = variant_id(case, config)
    return name.replace(f"python={short(python)}", f"python={python}", 1) if python else name


def to_dict(case: Case | ProcessConfig | Recipe) -> dict[str, Any]:
    """A dict of the fields, including ids, for the protocol of processes."""
    return asdict(case)


def case_from(values: dict[str, Any]) -> Case:
    """The case of a dict made by `to_dict`."""
    return Case(**{name: value for name, value in values.items() if name != "id"})


def short(value: object) -> str:
    """A value in ids and tables: 1 and 0 for true and false, auto for None.

    An interpreter is shown by its label, environment variables completely.
    """
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    if isinstance(value, str):
        label, equals, path = value.partition("=")
        return label if equals and "/" in path else value
    return str(int(value)) if isinstance(value, bool) else "auto" if value is None else str(value)
