"""Checks against independent references, for faults that are identical in every process.

NumPy's reading of the generator gives the inputs, a float64 training gives the weights, and the
orchestrator's clock gives the epoch times.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from xorbench.records.schema.golden import GoldenInputs
from xorbench.records.schema.process import process_order, slot_of
from xorbench.records.schema.training import Failure, TrainingRecord
from xorbench.verdicts import Verdict, failed, inconclusive, passed, skipped, some
from xorbench.xor.analysis import clocks, float64_error
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks.row import Check
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.engines import training_kind

# Golden inputs


def golden_inputs(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Points, initial weights and orders equal NumPy's reading of the same generator."""
    trainings = [t for t in evidence.run.trainings if training_kind(t.case) == "pytorch"]
    for seed in sorted({training.case.seed for training in trainings}):
        seeded = [training for training in trainings if training.case.seed == seed]
        lines = [line for line in evidence.run.golden_inputs if line.seed == seed]
        yield _inputs_of_seed(name, seed, lines, seeded)


def _inputs_of_seed(
    name: str, seed: int, lines: Sequence[GoldenInputs], trainings: Sequence[TrainingRecord]
) -> Verdict:
    variant, expected = f"seed {seed}", "NumPy's reading of the generator, and the golden digests"
    wrong = list(dict.fromkeys(flaw for line in lines for flaw in _mismatches(line)))
    unseen = next((line.unseen for line in lines if line.unseen), "")
    if wrong and unseen:
        return inconclusive(name, variant, expected, some(wrong), f"{unseen}: {UNSEEN_HINT}")
    checked = {slot_of(line.process) for line in lines}
    missing = sorted({slot_of(t.process) for t in trainings} - checked, key=process_order)
    if missing and not wrong:
        actual = f"not recorded for {some(missing)}"
        return inconclusive(name, variant, expected, actual, MISSING_HINT)
    wrong += _unchecked_inputs(lines, trainings)
    if wrong:
        return failed(name, variant, expected, some(wrong))
    count = min(len(line.details) for line in lines)
    return passed(name, variant, expected, f"{count} results in each of {len(lines)} process(es)")


MISSING_HINT: Final = "the run's folder lacks the files of this check: rerun it"
UNSEEN_HINT: Final = "this PyTorch may generate different random numbers"


def _mismatches(line: GoldenInputs) -> Iterator[str]:
    for result in line.details:
        if result.actual != result.expected:
            yield f"{result.what}: {result.actual[:64]}"


def _unchecked_inputs(
    lines: Sequence[GoldenInputs], trainings: Sequence[TrainingRecord]
) -> Iterator[str]:
    """Trainings that start from unchecked inputs."""
    checked = {sha256 for line in lines for sha256 in line.inputs_sha256.values()}
    for training in trainings:
        if training.inputs_sha256 not in checked:
            yield f"{training.case.id} in {training.process} starts from different inputs"


# Accuracy of arithmetic


def accuracy_of_arithmetic(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Weights, losses and predictions equal the float64 reference within rounding."""
    inputs = golden_inputs("", evidence)
    inconclusive_seeds = {v.subject for v in inputs if v.outcome == "inconclusive"}
    for variant in evidence.variants:
        is_open = f"seed {variant.case.seed}" in inconclusive_seeds
        yield _arithmetic(name, evidence, variant, is_open)


def _arithmetic(name: str, evidence: Evidence, variant: Variant, is_open: bool) -> Verdict:
    trainings = evidence.trainings[variant.id]
    training_errors = [(t, float64_error.training_error(evidence, t)) for t in trainings]
    errors = [(training, error) for training, error in training_errors if error is not None]
    reason = errors[0][1].refusal if errors else float64_error.refusal(evidence, trainings[0])
    if reason:
        return skipped(name, variant.id, WITHIN_ROUNDING, reason)
    if len(errors) < len(trainings):
        missing = len(trainings) - len(errors)
        actual = f"not recorded for {missing} of {len(trainings)} processes"
        return inconclusive(name, variant.id, WITHIN_ROUNDING, actual, MISSING_HINT)
    error = errors[0][1]
    limit = f"{error.limit_ulps:.3g} ulps"
    expected = f"within {limit} of float64 in each epoch, identical test predictions"
    flaws = list(
        dict.fromkeys(flaw for t, e in errors for flaw in (*e.flaws(), *_wrong_scores(evidence, t)))
    )
    doubt = "its golden inputs are inconclusive" if is_open else error.doubt
    if flaws and doubt:
        return inconclusive(name, variant.id, expected, "; ".join(flaws), doubt)
    if flaws:
        return failed(name, variant.id, expected, "; ".join(flaws))
    return passed(name, variant.id, expected, _error_text(error))


WITHIN_ROUNDING: Final = "the float64 reference, within rounding"


def _error_text(error: float64_error.Float64Error) -> str:
    typical = "" if error.typical is None else f", typically {error.typical:.3g} times NumPy's"
    return f"{max(error.error_ulps):.3g} ulps at most{typical}"


def _wrong_scores(evidence: Evidence, training: TrainingRecord) -> Iterator[str]:
    """Recorded predictions and scores that the recorded weights do not give."""
    reference = float64_error.float64_reference(evidence, training)
    if reference is None:
        return
    pairs = enumerate(zip(reference.predictions, training.predictions, strict=True))
    wrong = [
        str(index) for index, (expected, prediction) in pairs if expected not in ("?", prediction)
    ]
    if wrong:
        yield f"the weights predict {len(wrong)} test points differently: {some(wrong)}"
    counts = (("test", reference.test, training.test), ("train", reference.train, training.train))
    for name, (least, most), count in counts:
        if not least <= count.correct <= most:
            score = f"{least} to {most} {name} points"
            yield f"the weights predict {score} correctly, not {count.correct}"


# Clock


def clock(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """The epoch times that a process reports match the orchestrator's waits."""
    for variant in evidence.planned:
        lost = [f for f in evidence.failures.get(variant.id, []) if f.check == name]
        trainings = [evidence.epochs(t) for t in evidence.trainings.get(variant.id, [])]
        flaws = [*_impossible(lost), *chain.from_iterable(map(clocks.flaws, trainings))]
        if flaws:
            yield failed(name, variant.id, CLOCK_EXPECTED, some(flaws))
        elif not all(trainings):
            actual = "the epochs were not recorded"
            yield inconclusive(name, variant.id, CLOCK_EXPECTED, actual, MISSING_HINT)
        elif trainings:
            description = clocks.overhead_text([*chain.from_iterable(trainings)])
            yield passed(name, variant.id, CLOCK_EXPECTED, description)
    for process in evidence.run.info.processes:
        wrong = list(clocks.calibration_flaws(evidence.calibrations.get(process.id, {})))
        if wrong:
            subject = f"calibration in {process.id}"
            yield failed(name, subject, CLOCK_EXPECTED, some(wrong))


CLOCK_EXPECTED: Final = "times that match the orchestrator's waits"


def _impossible(lost: Sequence[Failure]) -> Iterator[str]:
    for failure in lost:
        yield f"{failure.process}: {failure.failed}"


GOLDEN_INPUTS: Final = Check(
    "golden inputs",
    "points, initial weights and orders equal NumPy's reading of the same generator",
    golden_inputs,
    "the points, weights or orders are wrong before training begins, in every process:"
    " suspect this PyTorch, or a change to it at start-up (sitecustomize)",
)
ACCURACY_OF_ARITHMETIC: Final = Check(
    "accuracy of arithmetic",
    "after every epoch the weights and the loss equal the float64 reference within rounding",
    accuracy_of_arithmetic,
    "the fault is identical in every process, so no comparison detects it: an operator, a sample, a"
    " label or a hyperparameter is wrong; docs/correctness.md lists which fault shows how",
)
CLOCK: Final = Check(
    "clock",
    "the times that a process reports match the orchestrator's waits",
    clock,
    "the times of this case are invalid: a clock of the process was changed or replaced, or, on an"
    " accelerator, an epoch ended before its work (a missing synchronization)",
)
