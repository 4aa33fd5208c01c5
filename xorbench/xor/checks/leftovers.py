"""The saved model, and the memory that a training does not release."""

from collections.abc import Iterator
from typing import Final

from xorbench.records.schema.training import TrainingRecord
from xorbench.verdicts import Verdict, judged
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.weights import sha256_of
from xorbench.xor.checks.row import Check
from xorbench.xor.matrix.case import Variant


def save_and_load(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """A saved and loaded model has an identical digest and score."""
    expected = "identical digest and score after saving and loading"
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        wrong = [f"{t.process}: {flaw}" for t in trainings for flaw in _reload_flaws(t)]
        digest = trainings[0].reloaded_sha256[:16]
        yield judged(name, variant.id, expected, "; ".join(wrong), digest)


def _reload_flaws(training: TrainingRecord) -> Iterator[str]:
    if training.epoch_digests[-1] != training.weights_sha256:
        yield "the weights changed between the last epoch and saving"
    if training.reloaded_sha256 != training.weights_sha256:
        yield "the loaded weights have a different digest"
    if training.reloaded_predictions != training.predictions:
        yield "the loaded model predicts differently"
    if training.weights and sha256_of(training.weights) != training.weights_sha256:
        yield "the recorded weights do not have the recorded digest"


def memory(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """No process grows by more than 256 MiB after set-up, no training on a device by 64 KiB.

    Devices count their memory in bytes, so a leak per epoch shows early.
    """
    trained = {training.process for training in evidence.run.trainings}
    for process in evidence.run.info.processes:
        if process.opened_rss_bytes is None or process.peak_rss_bytes is None:
            continue
        if process.id not in trained:
            continue
        grown_mib = (process.peak_rss_bytes - process.opened_rss_bytes) / 2**20
        subject = f"process {process.id}"
        expected, actual = f"at most {GROWTH_MIB} MiB more", f"{grown_mib:.0f} MiB more"
        yield judged(name, subject, expected, actual if grown_mib > GROWTH_MIB else "", actual)
    for variant in evidence.variants:
        yield from _device_memory(name, variant, evidence.trainings[variant.id])


def _device_memory(
    name: str, variant: Variant, trainings: list[TrainingRecord]
) -> Iterator[Verdict]:
    """The growth of device memory after the first epoch; nothing if it is unknown."""
    grown = [
        (training.accelerator_grown_bytes, training.process)
        for training in trainings
        if training.accelerator_grown_bytes is not None
    ]
    if grown:
        expected = f"at most {DEVICE_GROWTH_KIB} KiB more on {variant.case.device}"
        most, process = max(grown)
        actual = f"{process}: {most:,} bytes more after the last epoch than after the first"
        wrong = actual if most > DEVICE_GROWTH_KIB * 2**10 else ""
        yield judged(name, variant.id, expected, wrong, actual)


GROWTH_MIB: Final = 256
DEVICE_GROWTH_KIB: Final = 64


SAVE_AND_LOAD: Final = Check(
    "save and load",
    "a saved and loaded model has an identical digest and score",
    save_and_load,
    "checkpoints written on this machine differ from the trained model",
)
MEMORY: Final = Check(
    "memory",
    "no process grows by more than 256 MiB after its start, no device by more than 64 KiB",
    memory,
    "memory is not released after an epoch: a longer training will run out of memory",
)
