"""Independent witnesses: what is wrong in the same way in every process, no comparison sees.

NumPy's reading of the generator tells what a training must start from, a training in double
precision what its weights must come to, and the orchestrator's clock how long its epochs took.
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
    """Points, initial weights and orders are those that NumPy reads from the same generator."""
    trainings = [t for t in evidence.run.trainings if training_kind(t.case) == "pytorch"]
    for seed in sorted({training.case.seed for training in trainings}):
        seeded = [training for training in trainings if training.case.seed == seed]
        lines = [line for line in evidence.run.golden_inputs if line.seed == seed]
        yield _inputs_of_seed(name, seed, lines, seeded)


def _inputs_of_seed(
    name: str, seed: int, lines: Sequence[GoldenInputs], trainings: Sequence[TrainingRecord]
) -> Verdict:
    variant, expected = f"seed {seed}", "NumPy's reading of the generator, and the golden digests"
    wrong = list(dict.fromkeys(flaw for line in lines for flaw in _wrong_inputs(line)))
    unseen = next((line.unseen for line in lines if line.unseen), "")
    if wrong and unseen:
        return inconclusive(name, variant, expected, some(wrong), f"{unseen}: {UNSEEN_HINT}")
    checked = {slot_of(line.process) for line in lines}
    missing = sorted({slot_of(t.process) for t in trainings} - checked, key=process_order)
    if missing and not wrong:
        actual = f"not on record for {some(missing)}"
        return inconclusive(name, variant, expected, actual, MISSING_HINT)
    wrong += _other_inputs(lines, trainings)
    if wrong:
        return failed(name, variant, expected, some(wrong))
    facts = min(len(line.facts) for line in lines)
    return passed(name, variant, expected, f"{facts} facts in each of {len(lines)} process(es)")


MISSING_HINT: Final = "the run's folder lacks what this check reads: run it again"
UNSEEN_HINT: Final = "this PyTorch may draw otherwise"


def _wrong_inputs(line: GoldenInputs) -> Iterator[str]:
    for fact in line.facts:
        if fact.actual != fact.expected:
            yield f"{fact.what}: {fact.actual[:64]}"


def _other_inputs(
    lines: Sequence[GoldenInputs], trainings: Sequence[TrainingRecord]
) -> Iterator[str]:
    """Trainings that start from inputs which were not checked."""
    checked = {sha256 for line in lines for sha256 in line.inputs_sha256.values()}
    for training in trainings:
        if training.inputs_sha256 not in checked:
            yield f"{training.case.id} in {training.process} starts from other inputs"


# Accuracy of arithmetic


def accuracy_of_arithmetic(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Weights, losses and test answers are those of double precision, within sound rounding."""
    open_seeds = {v.subject for v in golden_inputs("", evidence) if v.outcome == "inconclusive"}
    for variant in evidence.variants:
        yield _arithmetic(name, evidence, variant, f"seed {variant.case.seed}" in open_seeds)


def _arithmetic(name: str, evidence: Evidence, variant: Variant, is_open: bool) -> Verdict:
    trainings = evidence.trainings[variant.id]
    training_errors = [(t, float64_error.training_error(evidence, t)) for t in trainings]
    errors = [(training, error) for training, error in training_errors if error is not None]
    reason = errors[0][1].refusal if errors else float64_error.refusal(evidence, trainings[0])
    if reason:
        return skipped(name, variant.id, "double precision's, within rounding", reason)
    if len(errors) < len(trainings):
        expected, missing = "double precision's, within rounding", len(trainings) - len(errors)
        actual = f"not on record for {missing} of {len(trainings)} processes"
        return inconclusive(name, variant.id, expected, actual, MISSING_HINT)
    error = errors[0][1]
    expected = f"within {error.limit_ulps:.3g} ulps of float64 in each epoch, the same test answers"
    flaws = list(
        dict.fromkeys(
            flaw for t, e in errors for flaw in (*e.flaws(), *_other_answers(evidence, t))
        )
    )
    doubt = "its golden inputs are inconclusive" if is_open else error.doubt
    if flaws and doubt:
        return inconclusive(name, variant.id, expected, "; ".join(flaws), doubt)
    if flaws:
        return failed(name, variant.id, expected, "; ".join(flaws))
    return passed(name, variant.id, expected, _error_text(error))


def _error_text(error: float64_error.Float64Error) -> str:
    typical = "" if error.typical is None else f", typically {error.typical:.3g} times NumPy's"
    return f"{max(error.error_ulps):.3g} ulps at most{typical}"


def _other_answers(evidence: Evidence, training: TrainingRecord) -> Iterator[str]:
    """Answers, and counts of right ones, that the recorded weights do not give."""
    reference = float64_error.followed(evidence, training)
    if reference is None:
        return
    pairs = enumerate(zip(reference.predictions, training.predictions, strict=True))
    wrong = [
        str(index) for index, (expected, prediction) in pairs if expected not in ("?", prediction)
    ]
    if wrong:
        yield f"the weights answer {len(wrong)} test points otherwise: {some(wrong)}"
    counts = (("test", reference.test, training.test), ("train", reference.train, training.train))
    for name, (least, most), count in counts:
        if not least <= count.correct <= most:
            yield f"the weights are right on {least} to {most} {name} points, not {count.correct}"


# Clock


def clock(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """What a process says its epochs took is what the orchestrator waited for them."""
    for variant in evidence.planned:
        lost = [f for f in evidence.failures.get(variant.id, []) if f.check == name]
        trainings = [evidence.epochs(t) for t in evidence.trainings.get(variant.id, [])]
        flaws = [*_impossible(lost), *chain.from_iterable(map(clocks.flaws, trainings))]
        if flaws:
            yield failed(name, variant.id, CLOCK_EXPECTED, some(flaws))
        elif not all(trainings):
            actual = "the epochs are not on record"
            yield inconclusive(name, variant.id, CLOCK_EXPECTED, actual, MISSING_HINT)
        elif trainings:
            description = clocks.overhead_text([*chain.from_iterable(trainings)])
            yield passed(name, variant.id, CLOCK_EXPECTED, description)
    for process in evidence.run.info.processes:
        wrong = list(clocks.calibration_flaws(evidence.calibrations.get(process.id, {})))
        if wrong:
            subject = f"calibration in {process.id}"
            yield failed(name, subject, CLOCK_EXPECTED, some(wrong))


CLOCK_EXPECTED: Final = "the times that the orchestrator waited"


def _impossible(lost: Sequence[Failure]) -> Iterator[str]:
    for failure in lost:
        yield f"{failure.process}: {failure.failed}"


GOLDEN_INPUTS: Final = Check(
    "golden inputs",
    "points, initial weights and orders are those that NumPy reads from the same generator",
    golden_inputs,
    "the points, weights or orders are wrong before training begins, in every process alike:"
    " suspect this PyTorch, or what changes it at start-up (sitecustomize)",
)
ACCURACY_OF_ARITHMETIC: Final = Check(
    "accuracy of arithmetic",
    "after every epoch the weights and the loss are those of float64, within rounding",
    accuracy_of_arithmetic,
    "the same in every process, so that no comparison sees it: an operator, a sample, a label or a"
    " hyperparameter is not what it says; docs/correctness.md tells what shows how",
)
CLOCK: Final = Check(
    "clock",
    "the times that a process reports are those that the orchestrator waited",
    clock,
    "no time of this case can be believed: a clock of the process that is changed or replaced, or,"
    " on an accelerator, an epoch that ends before its work does (a lost synchronization)",
)
