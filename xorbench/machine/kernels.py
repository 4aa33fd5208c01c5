"""What makes a processor's kernels add in another order: switches to set, and why bits differ."""

from collections.abc import Collection
from typing import Final

# Each is a variable and a value that makes MKL, ATen or oneDNN choose other kernels.
SWITCHES: Final = (
    "MKL_CBWR=COMPATIBLE",
    "MKL_CBWR=AVX2",
    "ATEN_CPU_CAPABILITY=default",
    "ATEN_CPU_CAPABILITY=avx2",
    "ONEDNN_MAX_CPU_ISA=AVX2",
)
# Recorded facts, by the names that comparisons give them, on which the choice depends.
FACTS: Final = (
    "cpu",
    "cpu_capability",
    "architecture",
    "machine",
    *dict.fromkeys(f"environment.{switch.partition('=')[0]}" for switch in SWITCHES),
)
HINT: Final = (
    "MKL chooses its kernels by processor, so an Intel processor with AVX-512 gives other bits than"
    " an AMD one for the same training; with --env MKL_CBWR=COMPATIBLE both give the same"
)


def hint(differing: Collection[str]) -> str:
    """Why bits may differ where these recorded facts do; empty where they choose no kernels."""
    return HINT if any(fact in FACTS for fact in differing) else ""
