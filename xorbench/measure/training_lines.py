"""The lines of a training, from what was observed and what its process answered."""

from typing import Any

import msgspec

from xorbench.measure.slots import ActiveTraining
from xorbench.observe.records.golden import Float64Reference, epoch_digests_sha256
from xorbench.observe.records.training import Count, TrainingEnd
from xorbench.plan.honour import float64_key


def followed_key(one: ActiveTraining | Float64Reference) -> tuple[object, ...]:
    """What two trainings must share to have one line of `float64.jsonl`."""
    if isinstance(one, ActiveTraining):
        return float64_key(one.case), epoch_digests_sha256(one.epoch_digests)
    return tuple(one.key), one.epochs_sha256


def float64_record(one: ActiveTraining, followed: dict[str, Any]) -> Float64Reference:
    """The line of a training that was followed in double precision."""
    return msgspec.convert(
        {
            "process": one.slot.process_id,
            "case": one.case.id,
            "key": float64_key(one.case),
            "epochs_sha256": epoch_digests_sha256(one.epoch_digests),
            **followed,
        },
        Float64Reference,
    )


def training_end(one: ActiveTraining, answer: dict[str, Any]) -> TrainingEnd:
    """The line of a finished training, from what `finish` answered."""
    train, test, again = answer["train"], answer["test"], answer["reloaded_test"]
    values = {
        "case": one.case,
        "process": one.slot.process_id,
        "config": one.slot.config.id,
        "inputs_sha256": one.inputs_sha256,
        "weights_sha256": answer["weights_sha256"],
        "train": _count(train),
        "test": _count(test),
        "predictions": test["predictions"],
        "reloaded_sha256": answer["reloaded_sha256"],
        "reloaded_test": _count(again),
        "reloaded_predictions": again["predictions"],
        "accelerator_peak_bytes": answer["accelerator_peak_bytes"],
        "accelerator_grown_bytes": answer["accelerator_grown_bytes"],
        "weights": answer["weights"],
        "startup_s": one.startup_s,
        "golden": answer.get("golden", []),
    }
    return msgspec.convert(values, TrainingEnd)


def _count(score: dict[str, Any]) -> Count:
    return Count(correct=score["correct"], total=score["total"], not_finite=score["not_finite"])
