"""The axes: one row defines a setting.

Options, matrix, invariance checks and reports are made from these rows. `bits` gives the required
effect on the bits when only this setting changes between two variants.
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

# Values of `supported_by`: engines by name, and the float64 reference.
FLOAT64: Final = "float64"
ENGINES_ALL: Final = frozenset(ENGINES)
ENGINES_PYTORCH: Final = frozenset(n for n, row in ENGINES.items() if row.kind == "pytorch")
ENGINES_FED: Final = frozenset(n for n, row in ENGINES.items() if row.fed_by_loader)

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NEXT_IN_ID = re.compile(r" [A-Za-z_][A-Za-z0-9_]*=|\+[a-z0-9_]+=")  # would make an id ambiguous


@dataclass(frozen=True, slots=True)
class Expectation:
    """The required effect of a setting on the bits, and the reason."""

    bits: BitChange
    reason: str


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting: its option, its scope, its values and its effect on the bits.

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
    several: bool = False  # the option can be repeated; `read` gets one line for each
    idle: Callable[[Case, bool], str] = lambda _case, _has_accelerator: ""
    supported_by: frozenset[str] = frozenset()
    refused: str = "does not support {name} {value}"
    changes_float64: bool = True

    @property
    def default_text(self) -> str:
        """The default as typed on the command line."""
        return ",".join(value_text(value) for value in self.default)

    def value(self, variant: Variant) -> Any:
        """The variant's value of this setting."""
        owner = variant.config if self.scope == "process" else variant.case
        return getattr(owner, self.name)

    @property
    def is_optional(self) -> bool:
        """Whether a value can be None, which selects PyTorch's default."""
        return type(None) in get_args(self._annotation)

    @property
    def kind(self) -> type:
        """The type of its values except None: bool, int, str or tuple."""
        named = (kind for kind in get_args(self._annotation) if kind is not type(None))
        kind: type = next(named, str) if self.is_optional else self._annotation
        return kind if kind in (bool, int, str) else tuple

    @property
    def _annotation(self) -> Any:
        owner = ProcessConfig if self.scope == "process" else Case
        return next(field.type for field in fields(owner) if field.name == self.name)

    @property
    def neutral(self) -> Any:
        """The default of the field, which every engine and the float64 reference support."""
        return getattr(ProcessConfig() if self.scope == "process" else Case(), self.name)


def value_text(value: object) -> str:
    """A value as typed on the command line."""
    return str(value).lower() if isinstance(value, bool) else short(value)


def _listed(read: Callable[[str, str], Any]) -> Callable[[str, str], tuple[Any, ...]]:
    return partial(parse.separated, parse=read)


def read_devices(option: str, text: str) -> tuple[str, ...]:
    """A list of distinct devices. Raises `BadOption` for an unknown or repeated device."""
    devices = parse.separated(option, text, read_device)
    for device in devices:
        if device.endswith(":0") and device[:-2] in devices:
            raise BadOption(f"{option}: {device[:-2]} and {device} are the same device")
    return devices


def _numbers_or_auto(option: str, text: str) -> tuple[int | None, ...]:
    """A list of integers from 1 to 1,024; `auto` is None."""

    def read(name: str, item: str) -> int | None:
        return None if item == "auto" else parse.integer(name, item, 1, 1_024)

    return parse.separated(option, text, read)


def read_pythons(option: str, text: str) -> tuple[str | None, ...]:
    """Interpreters as `LABEL=/absolute/path`. Raises `BadOption` for a missing interpreter.

    The default label is the folder of the environment: `torch26` for `torch26/bin/python`.
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
    # Not resolved, since the folder of a link determines the environment.
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise BadOption(f"{option}: no interpreter at {path!r}", "for example venv/bin/python")
    label = label or python.absolute().parent.parent.name
    if not _LABEL.fullmatch(label):
        raise BadOption(
            f"{option}: invalid label {label!r}", "use letters, digits, '.', '_' and '-'"
        )
    return f"{label}={python.absolute()}"


def read_env(option: str, text: str) -> tuple[tuple[str, ...], ...]:
    """Every combination of the variables' values, from one line per variable.

    Raises `BadOption` for an invalid or repeated variable.
    """
    if text == "none":
        return ((),)
    names, rows = [], []
    for line in text.split("\n"):
        hint = "for example --env ATEN_CPU_CAPABILITY=default,avx2"
        name, values = parse.variable(option, line, hint)
        if ambiguous := _NEXT_IN_ID.search(values):
            raise BadOption(
                f"{option}: {name}: a value cannot contain {ambiguous[0]!r}: {values!r}"
            )
        names.append(name)
        rows.append([f"{name}={value}" for value in parse.distinct(option, values.split(","))])
    parse.distinct(option, names)
    return tuple(tuple(sorted(cell)) for cell in product(*rows))


def _always(bits: BitChange, reason: str) -> Callable[[Variant, Variant], Expectation]:
    return lambda _a, _b: Expectation(bits, reason)


def _kept_on_cpu(on_cpu: str, reason: str) -> Callable[[Variant, Variant], Expectation]:
    """Keep the bits on the CPU; they may change on an accelerator."""

    def bits(a: Variant, _b: Variant) -> Expectation:
        if device_type(a.case.device) == "cpu":
            return Expectation("keep", on_cpu)
        return Expectation("may change", reason)

    return bits


def _device_bits(a: Variant, b: Variant) -> Expectation:
    if training_kind(a.case) == training_kind(b.case) == "universal":
        return Expectation("keep", "the universal training is bitwise identical on every machine")
    return Expectation("may change", "kernels of a different device may add in a different order")


def _engine_bits(a: Variant, b: Variant) -> Expectation:
    if training_kind(a.case) != training_kind(b.case):
        return Expectation("may change", "the universal training is a different computation")
    if not (ENGINES[a.case.engine].exact and ENGINES[b.case.engine].exact):
        return Expectation("may change", "a compiler may fuse operations and round less often")
    return Expectation("keep", "exact engines run the same batches with the same arithmetic")


def _batch_size_bits(a: Variant, b: Variant) -> Expectation:
    whole = min(a.case.batch_size, b.case.batch_size) >= a.recipe.train_size
    same_lr = a.recipe.learning_rate(a.case.batch_size) == b.recipe.learning_rate(b.case.batch_size)
    if whole and same_lr:
        return Expectation("keep", "one batch holds all points in both cases")
    return Expectation("change", "a step averages over a different number of points")


def _drop_last_bits(a: Variant, _b: Variant) -> Expectation:
    if a.recipe.train_size % a.case.batch_size == 0:
        return Expectation("keep", "the batch size divides the data evenly")
    return Expectation("change", "the short last batch is one more step")


def _num_workers_bits(a: Variant, b: Variant) -> Expectation:
    if a.case.persistent_workers and 0 in (a.case.num_workers, b.case.num_workers):
        return _persistent_bits(a, b)
    return Expectation("keep", "the main process generates the order")


def _persistent_bits(a: Variant, b: Variant) -> Expectation:
    if max(a.case.num_workers, b.case.num_workers) == 0:
        return Expectation("keep", "num_workers is 0")
    if a.recipe.epochs == 1:
        return Expectation("keep", "the first epoch is the same in both cases")
    return Expectation(
        "change", "persistent loader workers get their base seed once, not in each epoch"
    )


def _in_order_bits(a: Variant, b: Variant) -> Expectation:
    if reordering(a.case) or reordering(b.case):
        return ANY_ORDER
    return Expectation("keep", "with fewer than two loader workers batches keep their order")


ANY_ORDER: Final = Expectation("may change", "loader workers return batches as they finish")


def reordering(case: Case) -> bool:
    """Whether loader workers may return the batches of this case in any order."""
    return not case.in_order and case.num_workers > 1


def _threads_bits(a: Variant, _b: Variant) -> Expectation:
    if training_kind(a.case) == "universal":
        return Expectation("keep", "the universal training adds in one order")
    return Expectation("may change", "a BLAS may split its sums by the number of threads")


def _idle(name: str, where: Callable[[Case], bool], reason: str) -> Callable[[Case, bool], str]:
    """A note for cases in which a non-default value of the setting has no effect."""

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
        "devices by PyTorch's names; by default also the accelerator",
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
        _always("keep", "pinning copies the bytes to different memory without changes"),
        "batches in page-locked host memory", quick=(False,), idle=_idle_pin,
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "drop_last", "--drop-last", "recipe", _listed(parse.truth), (True, False),
        _drop_last_bits, "drop the short last batch",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "num_workers", "--num-workers", "loader", partial(parse.integers, low=0, high=64), (0,),
        _num_workers_bits, "number of loader workers",
        supported_by=ENGINES_FED | {FLOAT64}, changes_float64=False,
        refused="has no loader workers",
    ),
    Axis(
        "seed", "--seeds", "recipe", partial(parse.integers, low=0, high=2**31 - 1), (0,),
        _always("change", "different points, initial weights and order"),
        "points, initial weights and order; ranges such as 0-9",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "non_blocking", "--non-blocking", "loader", _listed(parse.truth), (False,),
        _always("keep", "a device runs its work in queue order"),
        "copy batches to the device without waiting",
        idle=_idle("non_blocking", _on_cpu, "nothing is copied between devices on the CPU"),
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "persistent_workers", "--persistent-workers", "loader", _listed(parse.truth), (False,),
        _persistent_bits, "keep loader workers between epochs",
        idle=_idle(
            "persistent_workers", _in_process, "num_workers is 0"
        ),
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "prefetch_factor", "--prefetch-factor", "loader", _numbers_or_auto, (None,),
        _always("keep", "the main process generates the order"),
        "batches that each loader worker fetches ahead; auto is PyTorch's default",
        idle=_idle("prefetch_factor", _in_process, "num_workers is 0"),
        supported_by=ENGINES_FED | {FLOAT64}, changes_float64=False,
        refused="has no loader workers",
    ),
    Axis(
        "multiprocessing_context", "--multiprocessing-context", "loader",
        _listed(partial(parse.word, choices=START_METHODS)), ("auto",),
        _always("keep", "the main process generates the order"),
        "start method of loader workers: fork, forkserver, spawn; auto is fork on Linux",
        idle=_idle("multiprocessing_context", _in_process, "num_workers is 0"),
        supported_by=ENGINES_FED | {FLOAT64}, changes_float64=False,
        refused="has no loader workers",
    ),
    Axis(
        "in_order", "--in-order", "loader", _listed(parse.truth), (True,), _in_order_bits,
        "use batches in the sampler's order, not in the order in which loader workers finish",
        idle=_idle("in_order", _in_process, "without loader workers batches keep their order"),
        supported_by=ENGINES_FED, changes_float64=False,
        refused="uses batches in the sampler's order, not {name} {value}",
    ),
    Axis(
        "optimizer", "--optimizers", "engine", _listed(partial(parse.word, choices=OPTIMIZERS)),
        ("default",),
        _kept_on_cpu(
            "each weight gets the same multiplication and addition",
            "kernels may round a different number of times",
        ),
        "kernels of SGD: PyTorch's default, foreach or fused",
        supported_by=ENGINES_PYTORCH | {FLOAT64}, changes_float64=False,
        refused="has its own update, not {value}",
    ),
    Axis(
        "dtype", "--dtypes", "engine", _listed(partial(parse.word, choices=DTYPES)), ("float32",),
        _always("change", "a different number format rounds differently"),
        "dtype of points and weights; bfloat16 is autocast over float32 weights",
        supported_by=ENGINES_PYTORCH | {FLOAT64}, changes_float64=False,
        refused="supports only float32, not {value}",
    ),
    Axis(
        "tf32", "--tf32", "device", _listed(parse.truth), (False,),
        _kept_on_cpu(
            "TF32 applies only to accelerators",
            "matrix units may round inputs to 10 bits of mantissa",
        ),
        "allow TF32 for float32 matrix products of an accelerator",
        idle=_idle(
            "tf32", lambda case: _on_cpu(case) or training_kind(case) == "universal",
            "TF32 applies to an accelerator's matrix products",
        ),
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "data_on_device", "--data-on-device", "device", _listed(parse.truth), (False,),
        _always("keep", "the same numbers are stored in different memory"),
        "keep the training points on the device",
        idle=_idle("data_on_device", _on_cpu, "on the CPU the data are always on the device"),
        supported_by=ENGINES_ALL | {FLOAT64}, changes_float64=False,
    ),
    Axis(
        "deterministic", "--deterministic", "process", _listed(parse.truth), (True,),
        _kept_on_cpu(
            "the CPU kernels of this network are deterministic",
            "faster kernels may add in any order",
        ),
        "torch.use_deterministic_algorithms",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "threads", "--threads", "process", _numbers_or_auto, (1,), _threads_bits,
        "CPU threads; auto is PyTorch's default",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "python", "--pythons", "process", read_pythons, (None,),
        _always("may change", "a different PyTorch or NumPy may compute in a different order"),
        "interpreters, as PATH or LABEL=PATH; auto is the current one",
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
    Axis(
        "env", "--env", "process", read_env, ((),),
        _always("may change", "environment variables select kernels"),
        "environment variable and its values, as NAME=A,B; can be repeated", several=True,
        supported_by=ENGINES_ALL | {FLOAT64},
    ),
)  # fmt: skip

CASE_AXES: Final = tuple(axis for axis in AXES if axis.scope != "process")
CONFIG_AXES: Final = tuple(axis for axis in AXES if axis.scope == "process")


def idle_note(case: Case, has_accelerator: bool) -> str:
    """Settings of this case without effect on this machine; empty if all have one."""
    notes = (axis.idle(case, has_accelerator) for axis in CASE_AXES)
    return "; ".join(note for note in notes if note)
