"""Two readings of the workload, written apart, train the same bits."""

import pytest
import torch
from witness import train

from xorbench.observe.records import Run
from xorbench.plan.case import Case
from xorbench.plan.recipe import Recipe
from xorbench.workload.loop import Training

PUBLISHED = "8a94bc2b28aedaec6dd7b8d056032330"


def test_the_quick_run_has_the_witness_tapes(quick_run: Run) -> None:
    """Every epoch of both quick cases, in every worker, has the witness's digest."""
    for drop_last in (True, False):
        _, tape, correct = train(drop_last=drop_last)
        mine = [t for t in quick_run.trainings if t.case.drop_last is drop_last]
        assert [tape] * 2 == [training.tape for training in mine]
        assert [correct] * 2 == [training.test.correct for training in mine]


@pytest.mark.parametrize(
    ("seed", "batch_size", "drop_last"), [(0, 32, True), (1, 64, False), (7, 256, False)]
)
def test_other_cases_have_the_witness_tapes(seed: int, batch_size: int, drop_last: bool) -> None:
    """Other seeds, batch sizes and short batches agree as well."""
    case = Case(seed=seed, batch_size=batch_size, drop_last=drop_last)
    training = Training(case, Recipe(epochs=5))
    mine = [training.step().digest for _ in range(5)]
    _, tape, _ = train(seed=seed, batch_size=batch_size, drop_last=drop_last, epochs=5)
    assert tape == mine


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13")
    or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="published for PyTorch 2.13 on AVX2 and AVX-512",
)
def test_the_published_digest(quick_run: Run) -> None:
    """Seed 0, batch 128, drop_last: the digest that workload.md gives for PyTorch 2.13 on AVX2."""
    first = next(t for t in quick_run.trainings if t.case.drop_last)
    assert first.weights_sha256.startswith(PUBLISHED)
