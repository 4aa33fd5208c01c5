"""A case is one cell of the matrix; a process config is what a whole process runs under."""

import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.xor.matrix.recipe import Recipe

# Device types as torch.accelerator names them; a private backend's is asked of PyTorch.
DEVICE_TYPES: Final = ("cpu", "cuda", "hpu", "mps", "mtia", "npu", "xpu")
OPTIMIZERS: Final = ("default", "foreach", "fused")
DTYPES: Final = ("float32", "float64", "bfloat16")
START_METHODS: Final = ("auto", "fork", "forkserver", "spawn")  # of loader workers

_DEVICE = re.compile(r"([a-z][a-z_]*)(:(?:0|[1-9]\d{0,2}))?")
_ASK = "import torch; print(torch._C._get_privateuse1_backend_name())"
_ASK_S: Final = 60.0
BASE_CONFIG: Final = "base"


def read_device(option: str, text: str) -> str:
    """A device as PyTorch writes it, such as `cuda:1`; raises `BadOption` for any other text."""
    match = _DEVICE.fullmatch(text)
    is_known = match and (match[1] in DEVICE_TYPES or match[1] == registered_device_type())
    if not match or not is_known or (match[1] == "cpu" and match[2]):
        raise BadOption(
            f"{option}: unknown device {text!r}", f"one of {', '.join(DEVICE_TYPES)}, or cuda:1"
        )
    return text


@cache
def registered_device_type() -> str | None:
    """The device type that a private backend registers with this interpreter's PyTorch, if any.

    A fresh interpreter is asked, since this one does not import torch.
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
    """The type without the index: `cuda` of `cuda:1`."""
    return device.partition(":")[0]


def with_index(device: str) -> str:
    """The one spelling of a device: `cuda:0` of `cuda`, since that is what a process takes it for.

    The CPU has no index.
    """
    return device if ":" in device or device == "cpu" else f"{device}:0"


def _marked(default: Any, mark: str = "") -> Any:
    """A field whose value always stands in a case's id, behind this mark."""
    return field(default=default, metadata={"mark": mark})


@dataclass(frozen=True, slots=True)
class Case:
    """One training: where, how it is fed, from which seed.

    Its id has the marked fields, in their order, and of the others those that are not at their
    default, by name: so it renames nothing as axes grow. `xor.matrix.case_ids` reads it back.
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
    prefetch_factor: int | None = None  # None is PyTorch's own choice
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
    """What a process runs under. `threads=None` leaves PyTorch its own choice.

    One thread by default: nothing here is large enough to be split, and with more of them a busy
    machine makes every loss a hundred times slower, since OpenMP's threads wait by spinning.

    `python` is `LABEL=PATH` of an interpreter, None for the one that runs the harness; `env` holds
    environment variables as `NAME=value`, an empty value for a variable that is not to be set.
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
    """What is judged: a case under a process config, trained by a recipe."""

    case: Case
    config: ProcessConfig
    recipe: Recipe

    @property
    def id(self) -> str:
        """Case id, and the config's id where it is not the base config."""
        return variant_id(self.case, self.config)


def variant_id(case: Case, config: ProcessConfig) -> str:
    """Case id, and behind an `@` the config's id where it is not the base config."""
    return case.id if config.id == BASE_CONFIG else f"{case.id}@{config.id}"


def spelled_out(case: Case, config: ProcessConfig) -> str:
    """As `variant_id`, with the path of an interpreter too: it can be read back without a run."""
    python = config.python
    name = variant_id(case, config)
    return name.replace(f"python={short(python)}", f"python={python}", 1) if python else name


def to_dict(case: Case | ProcessConfig | Recipe) -> dict[str, Any]:
    """A plain dict of the fields, ids included: what crosses the pipe to a process."""
    return asdict(case)


def case_from(values: dict[str, Any]) -> Case:
    """The case that `to_dict` wrote."""
    return Case(**{name: value for name, value in values.items() if name != "id"})


def short(value: object) -> str:
    """A value as ids and tables show it: 1 and 0 for true and false, auto for None.

    Of an interpreter its label, of environment variables all of them.
    """
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    if isinstance(value, str):
        label, equals, path = value.partition("=")
        return label if equals and "/" in path else value
    return str(int(value)) if isinstance(value, bool) else "auto" if value is None else str(value)
