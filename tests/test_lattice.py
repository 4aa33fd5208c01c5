"""The lattice of a run, and how far its weights are from double precision."""

import msgspec
import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from xorbench.judge.error import distance_ulps, error_ulps
from xorbench.judge.evidence import Evidence
from xorbench.judge.lattice import lattice
from xorbench.observe.records import Run
from xorbench.plan.axes import AXES
from xorbench.plan.case import Case
from xorbench.plan.recipe import Recipe
from xorbench.report.tables import error, errors
from xorbench.workload import digest
from xorbench.workload.float64 import batches, exact
from xorbench.workload.seeding import generator
from xorbench.workload.xor import make_inputs


def test_every_setting_has_a_row_exercised_or_not(quick_run: Run) -> None:
    """In the order of the axes table; what the run did not vary says so."""
    rows = list(lattice(Evidence(quick_run)))
    assert [row.setting for row in rows] == [axis.name for axis in AXES]
    assert {row.setting for row in rows if row.seen != "not exercised"} == {"drop_last"}


def test_a_change_is_told_with_its_epoch_and_its_size(quick_run: Run) -> None:
    """The short last batch moves the weights in the first epoch, by so many ulps."""
    (row,) = [r for r in lattice(Evidence(quick_run)) if r.setting == "drop_last"]
    assert (row.must, row.pairs, row.outcome) == ("must change", 1, "pass")
    assert row.seen.startswith("changed at epoch 0 by ")
    assert int(row.seen.split()[-2].replace(",", "")) > 1_000


def test_a_broken_expectation_is_a_failure(quick_run: Run) -> None:
    """Two cases that must differ are given one tape."""
    tape = quick_run.trainings[0].tape
    same = [msgspec.structs.replace(training, tape=tape) for training in quick_run.trainings]
    run = msgspec.structs.replace(quick_run, trainings=same)
    (row,) = [r for r in lattice(Evidence(run)) if r.setting == "drop_last"]
    assert (row.seen, row.outcome) == ("kept", "fail")


def test_the_distance_of_weights_counts_floats() -> None:
    """Across zero, and none to what is not a number."""
    one, other = (np.array([x], "<f4") for x in (-(2.0**-149), 2.0**-149))
    assert distance_ulps(one, other) == 2
    assert distance_ulps(one, np.array([np.nan], "<f4")) is None


# Double precision


@pytest.mark.parametrize("case", [Case(), Case(batch_size=500, drop_last=False, seed=3)])
def test_double_precision_is_what_autograd_gives_in_double_precision(case: Case) -> None:
    """Two epochs of the derivative by hand against torch's own, to the last few digits."""
    recipe = Recipe(epochs=2, train_size=1_100)
    inputs = make_inputs(recipe, case.seed)
    model = inputs.model.double()
    points, labels = inputs.train.points.double(), inputs.train.labels.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr)
    shuffle = generator(case.seed, "shuffle")
    for _ in range(recipe.epochs):
        for index in batches(recipe, case, shuffle):
            optimizer.zero_grad()
            logits = model(points[index]).squeeze(1)
            binary_cross_entropy_with_logits(logits, labels[index]).backward()
            optimizer.step()
    found = exact(case, recipe)
    assert found.weights is not None
    expected = torch.cat([w.detach().flatten() for w in model.parameters()]).numpy()
    actual = np.frombuffer(bytes.fromhex(found.weights[-1]), "<f8")
    assert np.allclose(actual, expected, rtol=1e-12, atol=1e-14)


def test_double_precision_starts_from_the_inputs_of_the_case() -> None:
    """Their digest is the training's own."""
    inputs = make_inputs(Recipe(), 0)
    assert exact(Case(), Recipe(epochs=1)).inputs_sha256 == digest.sha256(inputs.entries())


def test_a_sound_training_is_a_few_ulps_from_the_truth(quick_run: Run) -> None:
    """After one epoch; and every epoch of every case is told."""
    table = error(quick_run).set_index("case")
    assert (table["after epoch 1 (ulps)"] < 50).all()
    assert errors(quick_run).shape == (100, 1 + len(table))


def test_a_wrong_training_is_far_from_the_truth(quick_run: Run) -> None:
    """One bit of one weight of one epoch: that epoch's error is thousands of ulps."""
    evidence = Evidence(quick_run)
    training = quick_run.trainings[0]
    sound = error_ulps(evidence, training)
    lines = [
        msgspec.structs.replace(line, weights="0000c0bf" + (line.weights or "")[8:])
        if (line.worker, line.case, line.epoch) == (training.worker, training.case.id, 9)
        else line
        for line in quick_run.epochs
    ]
    wrong = error_ulps(Evidence(msgspec.structs.replace(quick_run, epochs=lines)), training)
    assert [epoch for epoch in range(100) if wrong[epoch] != sound[epoch]] == [9]
    assert wrong[9] > 1_000 * sound[9]
