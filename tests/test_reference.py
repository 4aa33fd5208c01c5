"""Two independent implementations of the workload are bitwise identical."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reference import train

from xorbench.machine import kernels
from xorbench.records.schema.run import Run
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.training import Training

PUBLISHED = "8a94bc2b28aedaec6dd7b8d056032330d212577139520c73173cea88c6a648d9"
PRINT_BOTH = """
import torch, reference
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.training import Training
torch.set_num_threads(1)
training = Training(Case(), Recipe())
digest = [training.step().digest for _ in range(100)][-1]
print(torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.backends.mkl.is_available())
print(digest, reference.train()[0])
"""


def test_the_quick_run_has_the_epoch_digests_of_the_reference(quick_run: Run) -> None:
    """Every epoch of both quick cases in every process has the digest of the reference."""
    for drop_last in (True, False):
        _, epoch_digests, correct = train(drop_last=drop_last)
        trainings = [t for t in quick_run.trainings if t.case.drop_last is drop_last]
        assert [epoch_digests] * 2 == [training.epoch_digests for training in trainings]
        assert [correct] * 2 == [training.test.correct for training in trainings]


@pytest.mark.parametrize(
    ("seed", "batch_size", "drop_last"), [(0, 32, True), (1, 64, False), (7, 256, False)]
)
def test_more_cases_have_the_epoch_digests_of_the_reference(
    seed: int, batch_size: int, drop_last: bool
) -> None:
    """Different seeds, batch sizes and short batches also agree."""
    case = Case(seed=seed, batch_size=batch_size, drop_last=drop_last)
    training = Training(case, Recipe(epochs=5))
    digests = [training.step().digest for _ in range(5)]
    _, epoch_digests, _ = train(seed=seed, batch_size=batch_size, drop_last=drop_last, epochs=5)
    assert epoch_digests == digests


def test_the_published_digest() -> None:
    """Both implementations give it with MKL kernels that are equal on Intel and AMD processors.

    Seed 0, batch size 128, `drop_last`, 100 epochs. A separate process is needed because MKL reads
    `MKL_CBWR` when torch is imported.
    """
    switches = {switch.partition("=")[0] for switch in kernels.SWITCHES}
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_BOTH],
        cwd=Path(__file__).parent,
        env={**environment, "MKL_CBWR": "COMPATIBLE"},
        capture_output=True,
        text=True,
        check=True,
    )
    version, capability, mkl, *digests = done.stdout.split()
    if not version.startswith("2.13") or capability not in {"AVX2", "AVX512"} or mkl != "True":
        pytest.skip(f"published for PyTorch 2.13 with MKL on AVX2 and AVX-512, not for {version}")
    assert digests == [PUBLISHED] * 2
