"""The table of probes. Standard library only."""

from dataclasses import dataclass
from typing import Final

from xorbench.options import parse
from xorbench.registry import Registry


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe of a device.

    Attributes:
        cases: `package.module:function` that yields `machine.probes.exact.ExactCase`, each with a
            golden digest in this package.
        check: `package.module:function` from a `torch.device` to a
            `machine.probes.check.ProbeResult`, for a probe without cases. `canary` itself
            implements a probe with neither.
    """

    name: str
    about: str
    cases: str = ""
    check: str = ""


PROBES: Final = Registry(
    "probes",
    Probe,
    (
        Probe("training", "edge cases of float32, and the universal training"),
        Probe("matmul", "matrix products of each type", "xorbench.machine.probes.matmul:cases"),
        Probe("conv", "convolutions and their gradients", "xorbench.machine.probes.conv:cases"),
        Probe("reduction", "sums, orders and counts", "xorbench.machine.probes.reduction:cases"),
        Probe("scatter", "sums into shared places", "xorbench.machine.probes.scatter:cases"),
        Probe("conversion", "rounding between types", "xorbench.machine.probes.conversion:cases"),
        Probe(
            "memory",
            "patterns written, read and copied",
            check="xorbench.machine.probes.memory:check",
        ),
        Probe(
            "consistency", "one row in every row", check="xorbench.machine.probes.consistency:check"
        ),
    ),
)


def exact_probes() -> tuple[str, ...]:
    """The names of all probes except the training."""
    return tuple(name for name, probe in PROBES.items() if probe.cases or probe.check)


def read_probes(option: str, text: str | None) -> tuple[str, ...]:
    """The probes of a comma-separated list, by default all. Raises `BadOption`."""
    if text is None:
        return tuple(PROBES)
    chosen = [parse.word(option, name.strip(), tuple(PROBES)) for name in text.split(",")]
    return tuple(dict.fromkeys(chosen))
