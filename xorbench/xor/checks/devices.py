"""Does each device compute correctly?"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from xorbench.machine.golden_verdicts import (
    ARITHMETIC_HINT,
    PROBES_HINT,
    UNIVERSAL_HINT,
    checked,
    probed,
)
from xorbench.records.schema.training import TrainingRecord
from xorbench.verdicts import Verdict, judged, skipped, some
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.weights import largest_difference
from xorbench.xor.checks.row import Check
from xorbench.xor.matrix.case import device_type


def parity(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """An accelerator agrees with the CPU on every test point."""
    by_id = {variant.id: variant for variant in evidence.variants}
    pairs = [
        (variant, by_id[cpu.id])
        for variant in evidence.variants
        if device_type(variant.case.device) != "cpu"
        and (cpu := replace(variant, case=replace(variant.case, device="cpu"))).id in by_id
    ]
    if not pairs:
        reason = "no case ran both on the CPU and on an accelerator"
        yield skipped(name, "CPU and accelerator", "identical test predictions", reason)
    for variant, cpu in pairs:
        yield _agreement(name, variant.id, evidence.first(variant), evidence.first(cpu))


def _agreement(name: str, variant: str, device: TrainingRecord, cpu: TrainingRecord) -> Verdict:
    answers = zip(device.predictions, cpu.predictions, strict=True)
    differing = [index for index, (a, b) in enumerate(answers) if a != b]
    expected = f"{cpu.test.total} test predictions identical to the CPU's"
    weights = largest_difference(device.weights, cpu.weights)
    points = some([str(index) for index in differing])
    wrong = f"{len(differing)} differ, at points {points}; {weights}" if differing else ""
    return judged(name, variant, expected, wrong, f"identical; {weights}")


def arithmetic(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Each device rounds, divides, compares and keeps subnormals as IEEE 754 requires."""
    for process in evidence.run.info.processes:
        for device, golden in process.golden.items():
            yield checked(name, f"{device} in {process.id}", golden.arithmetic)


def universal(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Each device gives the golden digest of the universal training."""
    for process in evidence.run.info.processes:
        for device, golden in process.golden.items():
            yield checked(name, f"{device} in {process.id}", golden.universal)
    for variant in evidence.variants:
        for training in evidence.trainings[variant.id]:
            if training.golden:
                yield checked(name, f"{variant.id} in {training.process}", training.golden)


def probes(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Matrix units, memory and conversions of each device give the exact results."""
    for process in evidence.run.info.processes:
        for device, golden in process.golden.items():
            if golden.probes:
                yield probed(name, f"{device} in {process.id}", golden.probes)


PARITY: Final = Check(
    "parity",
    "an accelerator agrees with the CPU on every test point",
    parity,
    "compare the losses of both cases in epochs.jsonl: find the first epoch that differs",
    needs="a case on the CPU and on an accelerator",
)
ARITHMETIC: Final = Check(
    "arithmetic",
    "each device rounds, divides, compares and keeps subnormals as IEEE 754 requires",
    arithmetic,
    ARITHMETIC_HINT,
)
UNIVERSAL: Final = Check(
    "universal",
    "each device reproduces the golden digest of the universal training",
    universal,
    UNIVERSAL_HINT,
)
PROBES: Final = Check(
    "probes",
    "matrix units, convolutions, memory and conversions of each device give the exact results",
    probes,
    PROBES_HINT,
)
