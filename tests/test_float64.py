"""The error of a training: its distance from the float64 reference, per epoch and in total."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from conftest import with_changed_epochs
from torch.nn.functional import binary_cross_entropy_with_logits

from xorbench.records.schema.run import Run
from xorbench.records.schema.training import EpochLine
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.float64_error import Float64Error, distance_ulps, drift_ulps
from xorbench.xor.checks import judge
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.report.tables.correctness import errors, some_errors
from xorbench.xor.training import tensor_digest
from xorbench.xor.training.float64 import Float64Result, recompute, rounded
from xorbench.xor.training.golden_inputs import orders
from xorbench.xor.training.problem import make_inputs
from xorbench.xor.training.training import Training


def trained(case: Case, recipe: Recipe) -> tuple[Training, Float64Result]:
    """A real training and its float64 reference."""
    training = Training(case, recipe)
    epochs = [training.step() for _ in range(recipe.epochs)]
    reference = recompute(case, recipe, [str(epoch.weights) for epoch in epochs])
    assert reference is not None
    return training, reference


def test_the_distance_of_weights_counts_floats() -> None:
    """It counts across zero, and is None for NaN."""
    below, above = (np.array([x], "<f4") for x in (-(2.0**-149), 2.0**-149))
    assert distance_ulps(below, above) == 2
    assert distance_ulps(below, np.array([np.nan], "<f4")) is None


@pytest.mark.parametrize("case", [Case(), Case(batch_size=500, drop_last=False, seed=3)])
def test_the_free_run_equals_autograd_in_double_precision(case: Case) -> None:
    """Two epochs with the derivative by hand equal torch's to the last few digits."""
    recipe = Recipe(epochs=2, train_size=1_100)
    inputs = make_inputs(recipe, case.seed)
    model = inputs.model.double()
    points, labels = inputs.train.points.double(), inputs.train.labels.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr)
    drawn = orders(case.seed, recipe.train_size)
    for _ in range(recipe.epochs):
        order = next(drawn)
        for step in range(recipe.steps(case.batch_size, case.drop_last)):
            index = order[step * case.batch_size : (step + 1) * case.batch_size]
            optimizer.zero_grad()
            logits = model(points[index]).squeeze(1)
            binary_cross_entropy_with_logits(logits, labels[index]).backward()
            optimizer.step()
    _, reference = trained(case, recipe)
    expected = torch.cat([w.detach().flatten() for w in model.parameters()]).numpy()
    actual = np.frombuffer(bytes.fromhex(reference.weights[-1]), "<f8")
    assert np.allclose(actual, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(drop_last=False, seed=1),
        Case(dtype="float64"),
        Case(optimizer="foreach"),
        Case(num_workers=1, persistent_workers=True),
        Case(engine="replay", batch_size=500),
    ],
)
def test_a_correct_training_passes(case: Case) -> None:
    """This holds for each setting; persistent loader workers change the order after epoch 0."""
    recipe = Recipe(epochs=3)
    _, reference = trained(case, recipe)
    judged = Float64Error(case, recipe, reference.error_ulps, reference.control_ulps, [1.0], [1.0])
    assert (list(judged.flaws()), judged.refusal) == ([], "")
    assert reference.inputs_sha256 == tensor_digest.sha256(
        make_inputs(recipe, case.seed)
        .to(torch.float64 if case.dtype == "float64" else torch.float32)
        .entries()
    )


def test_bfloat16_has_its_own_limits() -> None:
    """A thousand times float32's error is correct in bfloat16 and wrong in float32."""
    recipe = Recipe(epochs=2)
    case = Case(dtype="bfloat16")
    _, reference = trained(case, recipe)
    correct = Float64Error(case, recipe, reference.error_ulps, reference.control_ulps, [1.0], [1.0])
    assert list(correct.flaws()) == []
    assert max(reference.error_ulps) > 100
    assert list(replace(correct, case=Case(), control_ulps=[1.0, 1.0]).flaws()) != []


def test_an_epoch_is_recomputed_from_the_weights_before_it() -> None:
    """An error in one epoch is measured only in that epoch."""
    case, recipe = Case(), Recipe(epochs=4)
    training = Training(case, recipe)
    recorded = []
    for number in range(recipe.epochs):
        if number == 2:
            with torch.no_grad():
                next(training.model.parameters()).view(-1)[0] += 1e-3
        recorded.append(str(training.step().weights))
    reference = recompute(case, recipe, recorded)
    assert reference is not None
    limit = Float64Error(
        case, recipe, reference.error_ulps, reference.control_ulps, [1.0], [1.0]
    ).limit_ulps
    assert [error > limit for error in reference.error_ulps] == [False, False, True, False]


def test_a_number_is_rounded_to_a_number_of_bits() -> None:
    """It is rounded to nearest, ties to even, for any exponent."""
    assert rounded(np.array([1.0, 1.0 + 2**-8, 3.0 * 2**-9 + 1, -5e9]), 8).tolist() == [
        1.0, 1.0, 1.0078125, -4999610368.0,
    ]  # fmt: skip


def test_amplified_rounding_is_not_judged() -> None:
    """This occurs at a high learning rate, in small batches, or if NumPy's float32 errs too."""
    judged = Float64Error(Case(), Recipe(lr=3.0), [50.0], [1.0], [1.0], [1.0])
    assert "lr 3" in judged.refusal
    assert "NumPy's" in replace(judged, recipe=Recipe(), control_ulps=[60.0]).doubt
    assert "below 16" in replace(judged, recipe=Recipe(), case=Case(batch_size=4)).refusal


def test_a_small_error_in_many_epochs_is_detected() -> None:
    """Each epoch is within its limit, but the typical error exceeds NumPy's."""
    correct = Float64Error(Case(), Recipe(), [1.5] * 100, [1.5] * 100, [1.0], [1.0])
    assert list(correct.flaws()) == []
    assert len(list(replace(correct, error_ulps=[2.5] * 100).flaws())) == 1


def test_a_wrong_loss_and_nan_fail() -> None:
    """Each is detected on its own."""
    correct = Float64Error(Case(), Recipe(), [1.0], [1.0], [0.5], [0.5])
    assert list(correct.flaws()) == []
    assert list(replace(correct, losses=[0.501]).flaws()) != []
    assert list(replace(correct, losses=[math.nan]).flaws()) != []
    three = replace(correct, losses=[0.5, math.nan, 0.5], float64_losses=[0.5] * 3)
    assert list(three.flaws()) != []
    assert list(replace(correct, error_ulps=[math.nan]).flaws()) != []


# In a run


def arithmetic(run: Run) -> list[Verdict]:
    """The outcome of the check for each case."""
    return [v for v in judge(Evidence(run)) if v.check == "accuracy of arithmetic"]


def test_a_run_is_judged_case_by_case(quick_run: Run) -> None:
    """A correct run passes, with one float64 reference for each batch order."""
    assert [v.outcome for v in arithmetic(quick_run)] == ["pass", "pass"]
    assert len(quick_run.float64) == 2


def test_predictions_that_differ_from_the_weights_fail(quick_run: Run) -> None:
    """An evaluation that counts all points as correct changes the score, not the weights."""
    swapped = [
        msgspec.structs.replace(t, predictions=t.predictions[1:] + t.predictions[0])
        for t in quick_run.trainings
    ]
    verdicts = arithmetic(msgspec.structs.replace(quick_run, trainings=swapped))
    assert {v.outcome for v in verdicts} == {"fail"}
    assert "test points differently" in verdicts[0].actual


def test_a_missing_float64_reference_does_not_pass(quick_run: Run) -> None:
    """Missing evidence is inconclusive or a failure."""
    verdicts = arithmetic(msgspec.structs.replace(quick_run, float64=[]))
    assert {v.outcome for v in verdicts} == {"inconclusive"}
    assert "not recorded" in verdicts[0].actual


def test_a_large_network_is_skipped_with_the_reason(quick_run: Run) -> None:
    """Its weights after each epoch are not recorded."""
    trainings = [msgspec.structs.replace(t, weights=None) for t in quick_run.trainings]
    run = msgspec.structs.replace(quick_run, trainings=trainings, float64=[])
    verdicts = arithmetic(run)
    assert {v.outcome for v in verdicts} == {"skipped"}
    assert "too large" in verdicts[0].actual


@pytest.mark.parametrize("part", ["test", "train"])
def test_a_score_that_differs_from_the_weights_fails(part: str, quick_run: Run) -> None:
    """The score counts wrong points as correct, while the predictions are unchanged."""
    wrong = [
        msgspec.structs.replace(t, **{part: msgspec.structs.replace(getattr(t, part), correct=400)})
        for t in quick_run.trainings
    ]
    verdicts = arithmetic(msgspec.structs.replace(quick_run, trainings=wrong))
    assert {v.outcome for v in verdicts} == {"fail"}
    assert f"{part} points correctly, not 400" in verdicts[0].actual


def test_the_drift_is_reported_for_every_epoch(quick_run: Run) -> None:
    """It is small after one epoch, and reported for every epoch of every case."""
    every = errors(Evidence(quick_run))
    table = some_errors(every).set_index("case")
    assert (table["after epoch 0 (ulps)"] < 50).all()
    after = every[[f"after epoch {epoch} (ulps)" for epoch in range(100)]]
    assert after.max(axis="columns").tolist() == every["largest (ulps)"].tolist()
    assert len(every) == len(table) == 2


def test_a_wrong_weight_is_far_from_the_reference(quick_run: Run) -> None:
    """One wrong bit of one weight in one epoch gives a drift of thousands of ulps."""
    evidence = Evidence(quick_run)
    training = quick_run.trainings[0]
    correct = drift_ulps(evidence, training)

    def flipped(line: EpochLine) -> EpochLine:
        if (line.process, line.case, line.epoch) != (training.process, training.case.id, 9):
            return line
        return msgspec.structs.replace(line, weights="0000c0bf" + (line.weights or "")[8:])

    wrong = drift_ulps(Evidence(with_changed_epochs(quick_run, flipped)), training)
    assert [epoch for epoch in range(100) if wrong[epoch] != correct[epoch]] == [9]
    assert wrong[9] > 1_000 * correct[9]
