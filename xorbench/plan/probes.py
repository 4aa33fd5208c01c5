"""The exact probes by name. `probes.registry` holds the row of each but the training."""

from typing import Final

from xorbench.errors import BadOption
from xorbench.plan import parse

PROBES: Final = {
    "training": "edge cases of float32, and the universal training",
    "matmul": "matrix products of each type",
    "conv": "convolutions and their gradients",
    "reduction": "sums, orders and counts",
    "scatter": "sums into shared places",
    "conversion": "rounding between types",
    "memory": "patterns written, read and copied",
    "consistency": "one row in every row",
}
EXACT_PROBES: Final = tuple(name for name in PROBES if name != "training")
UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def read_probes(option: str, text: str | None) -> tuple[str, ...]:
    """A comma-separated list of probes; all of them by default. Raises `BadOption`."""
    if text is None:
        return tuple(PROBES)
    chosen = [parse.word(option, name.strip(), tuple(PROBES)) for name in text.split(",")]
    return tuple(dict.fromkeys(chosen))


def read_size(option: str, text: str) -> int:
    """Bytes from a text such as `512MiB`. Raises `BadOption`."""
    for unit, size in reversed(UNITS.items()):
        number = text.removesuffix(unit)
        if number != text or unit == "B":
            try:
                found = int(float(number) * size)
            except (ValueError, OverflowError):
                break
            if found < 2**20:
                raise BadOption(f"{option}: must be at least 1MiB, got {text!r}")
            return found
    raise BadOption(f"{option}: expected a size such as 512MiB, got {text[:40]!r}")
