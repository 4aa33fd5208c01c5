"""Did each training finish, and does the network classify every point correctly?"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from xorbench.records.schema.training import TrainingRecord
from xorbench.verdicts import Verdict, failed, inconclusive, passed
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.weights import values_of
from xorbench.xor.checks.row import Check
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.engines import training_kind
from xorbench.xor.matrix.recipe import BASE_BATCH_SIZE


def completion(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Each case finishes in every process, and no process dies."""
    for variant in evidence.planned:
        lost = evidence.failures.get(variant.id, [])
        if lost:
            actual = "; ".join(f"{f.process}: {f.failed}" for f in lost)
            yield failed(name, variant.id, "trains to the end", actual)
        elif variant.id in evidence.unfinished:
            done = ", ".join(f"{u.slot}: {u.epochs}" for u in evidence.unfinished[variant.id])
            actual = f"stopped after epochs {done} of {variant.recipe.epochs}"
            hint = f"continue it: python -m xorbench run --resume {evidence.run.info.id}"
            yield inconclusive(name, variant.id, "trains to the end", actual, hint)
        elif variant.id in evidence.trainings:
            yield passed(name, variant.id, "trains to the end", "finished")
    for process in evidence.run.info.processes:
        if process.died:
            hint = f"see logs/{process.id}.log, and the system's log for memory or hardware errors"
            yield failed(name, f"process {process.id}", "runs to the end", process.died, hint)


def accuracy(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Every test point is classified correctly; weights, losses and outputs are finite."""
    for variant in evidence.variants:
        trainings = evidence.trainings[variant.id]
        tests = [training.test for training in trainings]
        expected = f"{tests[0].total}/{tests[0].total}"
        scores = ", ".join(dict.fromkeys(f"{test.correct}/{test.total}" for test in tests))
        flaws = dict.fromkeys(filter(None, map(not_finite, trainings)))
        actual = "; ".join([scores, *flaws])
        if all(test.correct == test.total for test in tests) and not flaws:
            yield passed(name, variant.id, expected, actual)
        else:
            yield failed(name, variant.id, expected, actual, _accuracy_hint(variant, trainings))


def not_finite(training: TrainingRecord) -> str:
    """The non-finite values at the end of a training, and their first epoch; empty if none."""
    return _not_finite_state(training) or "; ".join(_not_finite_outputs(training))


def _not_finite_outputs(training: TrainingRecord) -> Iterator[str]:
    for count in (training.test, training.train):
        if count.not_finite:
            yield f"{count.not_finite} of {count.total} outputs are not finite"


def _not_finite_state(training: TrainingRecord) -> str:
    epoch = _first_without_loss(training)
    weights = (training.weights or {}).values()
    if not all(np.isfinite(values_of(weight)).all() for weight in weights):
        return "weights are not finite" + ("" if epoch is None else f" after epoch {epoch}")
    lost = epoch is not None and training.losses[-1] is None
    return f"loss is not finite since epoch {epoch}" if lost else ""


def _first_without_loss(training: TrainingRecord) -> int | None:
    """The first epoch whose loss is not finite; None if all are, or the engine has none."""
    if training_kind(training.case) == "universal":
        return None
    return next((epoch for epoch, loss in enumerate(training.losses) if loss is None), None)


def _accuracy_hint(variant: Variant, trainings: list[TrainingRecord]) -> str:
    if any(map(_not_finite_state, trainings)):
        return _rate_hint(variant)
    if any(map(not_finite, trainings)):
        return "outputs of finite weights overflow: an operator is wrong, or the dtype too narrow"
    loss = max((t.losses[-1] or 0.0 for t in trainings), default=0.0)
    if loss > WILD_LOSS:
        return f"the final loss is {loss:.3g}, for a random guess 0.693: {_rate_hint(variant)}"
    if training_kind(variant.case) == "universal":
        return f"{_universal_hint(trainings)}; {_budget_hint(variant)}"
    return _budget_hint(variant)


WILD_LOSS: Final = 1.0  # a network that has learned nothing has a loss near ln 2


def _rate_hint(variant: Variant) -> str:
    rate = variant.recipe.learning_rate(variant.case.batch_size)
    scaled = " or --lr-scaling none" if rate > variant.recipe.lr else ""
    return f"lr {rate:g} may be too high here: try a lower --lr{scaled}"


def _universal_hint(trainings: list[TrainingRecord]) -> str:
    results = [result for training in trainings for result in training.golden]
    if results and all(result.actual == result.expected for result in results):
        return "the device computes correctly (see universal), but not every point is learned"
    return "see universal first: the device may compute incorrectly"


def _budget_hint(variant: Variant) -> str:
    recipe, size = variant.recipe, variant.case.batch_size
    short = f"{recipe.epochs} epochs at lr {recipe.learning_rate(size):g} may be too few here: try"
    more = f"--epochs {recipe.epochs * max(4, round(size / BASE_BATCH_SIZE))}"
    if size > BASE_BATCH_SIZE and recipe.lr_scaling == "none":
        return f"{short} --lr-scaling linear, or {more}"
    return f"{short} {more}, or different --seeds"


COMPLETION: Final = Check(
    "completion",
    "each case finishes in every process, and no process dies",
    completion,
    "see the logs/ folder",
)
ACCURACY: Final = Check(
    "accuracy",
    "every test point is classified correctly, and weights, losses and outputs are finite",
    accuracy,
    "see the check universal first: the device may compute incorrectly",
)
