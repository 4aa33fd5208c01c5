"""The axes: one row says all there is to know of a setting.

The options, the matrix, the invariance checks and the reports are made from these rows. `bits`
says what a change of this setting alone, from one variant to another, must do to the bits of the
training.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, get_args

from xorbench.errors import BadOption
from xorbench.options import parse
from xorbench.xor.matrix.case import (
    DTYPES,
    OPTIMIZERS,
    START_METHODS,
    Case,
    ProcessConfig,
    Variant,
    device_type,
    read_device,
    short,
)
from xorbench.xor.matrix.engines import ENGINES, training_kind

Scope = Literal["recipe", "loader", "engine", "device", "process"]
BitChange = Literal["keep", "change", "may change"]

# Who may support a setting: the engines by name, and the twin in double precision.
FLOAT64: Final = "float64"
ENGINES_ALL: Final = frozenset(ENGINES)
ENGINES_PYTORCH: Final = frozenset(n for n, row in ENGINES.items() if row.kind == "pytorch")
ENGINES_FED: Final = frozenset(n for n, row in ENGINES.items() if row.fed_by_loader)

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NEXT_IN_ID = re.compile(r" [A-Za-z_][A-Za-z0-9_]*=|\+[a-z0-9_]+=")  # an id could not be read back


@dataclass(frozen=True, slots=True)
class Expectation:
    """What changing a setting must do to the bits, and why."""

    bits: BitChange
    reason: str


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting: how it is given, where it lives, when it acts, what it does to the bits.

    `supported_by` names the engines that support it, and `float64` if the float64 reference does.
    A setting that cannot change the result of an engine is supported by it. An engine refuses a
    case with an unsupported setting at a value other than the neutral one; `refused` is the reason.
    `changes_float64` is false if the result of the reference does not depend on it.
    """

    name: str
    option: str
    scope: Scope
    read: Callable[[str, str], tuple[Any, ...]]
    default: tuple[Any, ...]
    bits: Callable[[Variant, Variant], Expectation]
    about: str
    quick: tuple[Any, ...] | None = None
    several: bool = False  # the option may be given more than once; `read` gets a line for each
    idle: Callable[[Case, bool], str] = lambda _case, _has_accelerator: ""
    supported_by: frozenset[str] = frozenset()
    refused: str = "does not support {name} {value}"
    changes_float64: bool = True

    @property
    def default_text(self) -> str:
        """The default as one would type it."""
        return ",".join(value_text(value) for value in self.default)

    def value(self, variant: Variant) -> Any:
        """The variant's value of this setting."""
        owner = variant.config if self.scope == "process" else variant.case
        return getattr(owner, self.name)

    @property
    def is_optional(self) -> bool:
        """Whether a value may be None, which leaves the choice to PyTorch."""
        return type(None) in get_args(self._annotation)

    @property
    def kind(self) -> type:
        """The type of its values other than None: bool, int, str or tuple."""
        named = (kind for kind in get_args(self._annotation) if kind is not type(None))
        kind: type = next(named, str) if self.is_optional else self._annotation
        return kind if kind in (bool, int, str) else tuple

    @property
    def _annotation(self) -> Any:
        owner = ProcessConfig if self.scope == "process" else Case
        return next(field.type for field in fields(owner) if field.name == self.name)

    @property
    def neutral(self) -> Any:
        """The default of the field: at this value it asks nothing of an engine or a twin."""
        return getattr(ProcessConfig() if self.scope == "process" else Case(), self.name)


def value_text(value: object) -> str:
    """A value as one would type it on the command line."""
    return str(value).lower() if isinstance(value, bool) else short(value)


def _listed(read: Callable[[str, str], Any]) -> Callable[[str, str], tuple[Any, ...]]:
    return partial(parse.separated, parse=read)


def read_devices(option: str, text: str) -> tuple[str, ...]:
    """A list of devices, none of them twice; raises `BadOption` for what is none."""
    devices = parse.separated(option, text, read_device)
    for device in devices:
        if device.endswith(":0") and device[:-2] in devices:
            raise BadOption(f"{option}: {device[:-2]} and {device} are the same device")
    return devices


def _numbers_or_auto(option: str, text: str) -> tuple[int | None, ...]:
    """A list of whole numbers from 1 to 1,024; `auto` is None."""

    def read(name: str, item: str) -> int | None:
        return None if item == "auto" else parse.integer(name, item, 1, 1_024)

    return parse.separated(option, text, read)


def read_pythons(option: str, text: str) -> tuple[str | None, ...]:
    """Interpreters as `LABEL=/absolute/path`; raises `BadOption` for what cannot be run.

    Without a label it is the folder of the environment: `torch26` of `torch26/bin/python`.
    """
    values = parse.separated(option, text, _read_python)
    parse.distinct(f"{option}: label", [value.partition("=")[0] for value in values if value])
    return values


def _read_python(option: str, text: str) -> str | None:
    if text == "auto":
        return None
    label, equals, path = text.partition("=")
    if not equals:
        label, path = "", text
    python = Path(os.path.expanduser(path))  # noqa: PTH111 - it never raises
    # not resolved: a link's own folder is what makes it the Python of its environment
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise BadOption(f"{option}: no interpreter at {path!r}", "for example venv/bin/python")
    label = label or python.absolute().parent.parent.name
    if not _LABEL.fullmatch(label):
        raise BadOption(f"{option}: {label!r} is no label", "letters, digits, '.', '_' and '-'")
    return f"{label}={python.absolute()}"


def read_env(option: str, text: str) -> tuple[tuple[str, ...], ...]:
    """Every combination of the variables' values, a line of text each; raises `BadOption`."""
    if text == "none":
        return ((),)
    names, rows = [], []
    for line in text.split("\n"):
        hint = "for example --env ATEN_CPU_CAPABILITY=default,avx2"
        name, values = parse.variable(option, line, hint)
        if ambiguous := _NEXT_IN_ID.search(values):
            raise BadOption(f"{option}: {name}: a value cannot hold {ambiguous[0]!r}: {values!r}")
        names.append(name)
        rows.append([f"{name}={value}" for value in parse.distinct(option, values.split(","))])
    parse.distinct(option, names)
    return tuple(tuple(sorted(cell)) for cell in product(*rows))


def _always(bits: BitChange, reason: str) -> Callable[[Variant, Variant], Expectation]:
    return lambda _a, _b: Expectation(bits, reason)


def _open_on_accelerators(on_cpu: str, reason: str) -> Callable[[Variant, Variant], Expectation]:
    """The bits stay on the CPU, and may change on an accelerator."""

    def bits(a: Variant, _b: Variant) -> Expectation:
        if device_type(a.case.device) == "cpu":
            return Expectation("keep", on_cpu)
        return Expectation("may change", reason)

    return bits


def _device_bits(a: Variant, b: Variant) -> Expectation:
    if training_kind(a.case) == training_kind(b.case) == "universal":
        return Expectation("keep", "the universal training has the same bits on every machine")
    return Expectation("may change", "another device's kernels may add in another order")


def _engine_bits(a: Variant, b: Variant) -> Expectation:
    if training_kind(a.case) != training_kind(b.case):
        return Expectation("may change", "the universal training has bits of its own")
    if not (ENGINES[a.case.engine].exact and ENGINES[b.case.engine].exact):
        return Expectation("may change", "a compiler may fuse operations and round less often")
    return Expectation("keep", "engines feed the same batches to the same arithmetic")


def _batch_size_bits(a: Variant, b: Variant) -> Expectation:
    whole = min(a.case.batch_size, b.case.batch_size) >= a.recipe.train_size
    same_lr = a.recipe.learning_rate(a.case.batch_size) == b.recipe.learning_rate(b.case.batch_size)
    if whole and same_lr:
        return Expectation("keep", "either way one batch holds all points")
    return Expectation("change", "a step averages over another number of points")


def _drop_last_bits(a: Variant, _b: Variant) -> Expectation:
    if a.recipe.train_size % a.case.batch_size == 0:
        return Expectation("keep", "the batch size divides the data: there is no short batch")
    return Expectation("change", "the short last batch is one more step")


def _num_workers_bits(a: Variant, b: Variant) -> Expectation:
    if a.case.persistent_workers and 0 in (a.case.num_workers, b.case.num_workers):
        return _persistent_bits(a, b)
    return Expectation("keep", "the order is drawn in the main process, whoever fetches")


def _persistent_bits(a: Variant, b: Variant) -> Expectation:
    if max(a.case.num_workers, b.case.num_workers) == 0:
        return Expectation("keep", "without loader workers there are none to keep")
    if a.recipe.epochs == 1:
        return Expectation("keep", "the first epoch draws the same either way")
    return Expectation("change", "kept loader workers draw their base seed once, not each epoch")


def _in_order_bits(a: Variant, b: Variant) -> Expectation:
    if reordering(a.case) or reordering(b.case):
        return ANY_ORDER
    return Expectation("keep", "with fewer than two loader workers batches keep their order")


ANY_ORDER: Final = Expectation("may change", "loader workers return batches as they finish")


def reordering(case: Case) -> bool:
    """Whether loader workers may return the batches of this case in any order, in each run."""
    return not case.in_order and case.num_workers > 1


def _threads_bits(a: Variant, _b: Variant) -> Expectation:
    if training_kind(a.case) == "universal":
        return Expectation("keep", "the universal training adds in one order")
    return Expectation("may change", "a BLAS may split its sums by the number of threads")


def _idle(name: str, where: Callable[[Case], bool], reason: str) -> Callable[[Case, bool], str]:
    """A setting does nothing at a value other than its default in some cases."""

    def note(case: Case, _has_accelerator: bool) -> str:
        is_set = getattr(case, name) != getattr(Case(), name)
        return f"no effect here: {reason}" if is_set and where(case) else ""

    return note


def _idle_pin(case: Case, has_accelerator: bool) -> str:
    if case.pin_memory and not has_accelerator:
        return "no effect here: PyTorch ignores pin_memory without an accelerator"
    return ""


def _on_cpu(case: Case) -> bool:
    return device_type(case.device) == "cpu"


def _in_process(case: Case) -> bool:
    return not case.num_workers


AXES: Final = (
    Axis(
        "device", "--devices", "device", read_devices, ("cpu",), _device_bits,
        "devices by PyTorch's names; where none is named, the accelerator too",
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "engine", "--engines", "engine", _listed(partial(parse.word, choices=tuple(ENGINES))),
        ("loader",), _engine_bits, "ways to run the same training",
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "batch_size", "--batch-sizes", "recipe", partial(parse.integers, low=1, high=10_000_000),
        (32, 64, 128, 256), _batch_size_bits, "points per optimizer step", quick=(128,),
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "pin_memory", "--pin-memory", "loader", _listed(parse.truth), (False, True),
        _always("keep", "pinning moves the bytes to other memory and changes none"),
        "batches in page-locked host memory", quick=(False,), idle=_idle_pin,
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "drop_last", "--drop-last", "recipe", _listed(parse.truth), (True, False),
        _drop_last_bits, "leave the short last batch out",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "num_workers", "--num-workers", "loader", partial(parse.integers, low=0, high=64), (0,),
        _num_workers_bits, "loader workers that fetch",
        supported_by=ENGINES_FED | {FLOAT64}, changes_float64=False,
        refused="has no loader workers",
    ),
    Axis(
        "seed", "--seeds", "recipe", partial(parse.integers, low=0, high=2**31 - 1), (0,),
        _always("change", "other points, initial weights and order"),
        "points, initial weights and order; ranges such as 0-9",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "non_blocking", "--non-blocking", "loader", _listed(parse.truth), (False,),
        _always("keep", "work on a device runs in the order it was queued"),
        "copy batches to the device without waiting",
        idle=_idle("non_blocking", _on_cpu, "nothing is copied between devices on the CPU"),
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "persistent_workers", "--persistent-workers", "loader", _listed(parse.truth), (False,),
        _persistent_bits, "keep loader workers from epoch to epoch",
        idle=_idle(
            "persistent_workers", _in_process, "without loader workers there are none to keep"
        ),
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "prefetch_factor", "--prefetch-factor", "loader", _numbers_or_auto, (None,),
        _always(
            "keep", "the order is drawn in the main process, however many batches are fetched ahead"
        ),
        "batches that each loader worker fetches ahead; auto is PyTorch's own choice",
        idle=_idle(
            "prefetch_factor", _in_process, "without loader workers no batch is fetched ahead"
        ),
        supported_by=ENGINES_FED | {FLOAT64}, changes_float64=False,
        refused="has no loader workers",
    ),
    Axis(
        "multiprocessing_context", "--multiprocessing-context", "loader",
        _listed(partial(parse.word, choices=START_METHODS)), ("auto",),
        _always("keep", "the order is drawn in the main process, however loader workers start"),
        "how loader workers start: fork, forkserver, spawn; auto is fork on Linux",
        idle=_idle("multiprocessing_context", _in_process, "without loader workers none starts"),
        supported_by=ENGINES_FED | {FLOAT64}, changes_float64=False,
        refused="has no loader workers",
    ),
    Axis(
        "in_order", "--in-order", "loader", _listed(parse.truth), (True,), _in_order_bits,
        "use batches in the drawn order, not in the order in which loader workers finish",
        idle=_idle("in_order", _in_process, "without loader workers batches keep their order"),
        supported_by=ENGINES_FED, changes_float64=False,
        refused="takes batches in the drawn order, not {name} {value}",
    ),
    Axis(
        "optimizer", "--optimizers", "engine", _listed(partial(parse.word, choices=OPTIMIZERS)),
        ("default",),
        _open_on_accelerators(
            "each weight gets the same multiplication and addition",
            "one kernel may round once where another rounds twice",
        ),
        "kernels of SGD: PyTorch's own choice, foreach or fused",
        supported_by=ENGINES_PYTORCH | {FLOAT64}, changes_float64=False,
        refused="has one update of its own, not {value}",
    ),
    Axis(
        "dtype", "--dtypes", "engine", _listed(partial(parse.word, choices=DTYPES)), ("float32",),
        _always("change", "numbers of another width round elsewhere"),
        "of points and weights; bfloat16 is autocast over float32 weights",
        supported_by=ENGINES_PYTORCH | {FLOAT64}, changes_float64=False,
        refused="has no dtype but float32, not {value}",
    ),
    Axis(
        "tf32", "--tf32", "device", _listed(parse.truth), (False,),
        _open_on_accelerators(
            "TF32 is set for accelerators alone",
            "matrix units may take inputs of 10 bits of mantissa",
        ),
        "let float32 matrix products of an accelerator use TF32",
        idle=_idle(
            "tf32", lambda case: _on_cpu(case) or training_kind(case) == "universal",
            "TF32 is for an accelerator's matrix products",
        ),
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "data_on_device", "--data-on-device", "device", _listed(parse.truth), (False,),
        _always("keep", "the same numbers, kept elsewhere"),
        "keep the training points on the device",
        idle=_idle("data_on_device", _on_cpu, "on the CPU the data are on the device anyway"),
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "deterministic", "--deterministic", "process", _listed(parse.truth), (True,),
        _open_on_accelerators(
            "the CPU kernels of this network have one form only",
            "faster kernels may add in any order",
        ),
        "torch.use_deterministic_algorithms",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "threads", "--threads", "process", _numbers_or_auto, (1,), _threads_bits,
        "CPU threads; auto is PyTorch's own choice",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "python", "--pythons", "process", read_pythons, (None,),
        _always("may change", "another PyTorch or NumPy may compute in another order"),
        "interpreters, as PATH or LABEL=PATH; auto is the one that runs this",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "env", "--env", "process", read_env, ((),),
        _always("may change", "the environment chooses among kernels"),
        "an environment variable and its values, as NAME=A,B; may be given again", several=True,
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
)  # fmt: skip

CASE_AXES: Final = tuple(axis for axis in AXES if axis.scope != "process")
CONFIG_AXES: Final = tuple(axis for axis in AXES if axis.scope == "process")


def idle_note(case: Case, has_accelerator: bool) -> str:
    """Why a setting of this case does nothing on this machine; empty where every one acts."""
    notes = (axis.idle(case, has_accelerator) for axis in CASE_AXES)
    return "; ".join(note for note in notes if note)
