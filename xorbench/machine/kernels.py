"""Switches that select a processor's kernels, and with them the order of summation."""

from collections.abc import Collection
from typing import Final

# Each sets an environment variable that makes MKL, ATen or oneDNN select different kernels.
SWITCHES: Final = (
    "MKL_CBWR=COMPATIBLE",
    "MKL_CBWR=AVX2",
    "ATEN_CPU_CAPABILITY=default",
    "ATEN_CPU_CAPABILITY=avx2",
    "ONEDNN_MAX_CPU_ISA=AVX2",
)
# Recorded properties on which the selection depends, by their names in comparisons.
PROPERTIES: Final = (
    "cpu",
    "cpu_capability",
    "architecture",
    "machine",
    *dict.fromkeys(f"environment.{switch.partition('=')[0]}" for switch in SWITCHES),
)
HINT: Final = (
    "MKL selects its kernels by processor, so an Intel processor with AVX-512 and an AMD processor"
    " give different bits; with --env MKL_CBWR=COMPATIBLE they are bitwise identical"
)


def hint(differing: Collection[str]) -> str:
    """A hint if these recorded differences change the selection of kernels; empty if not."""
    return HINT if any(name in PROPERTIES for name in differing) else ""
