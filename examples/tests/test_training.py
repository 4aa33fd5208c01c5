"""A test suite that keeps trainings reproducible: `pytest tests`, with xorbench installed.

The fixture `xorbench` needs no import; the one here is for editors and type checkers.
"""

from pathlib import Path

import pytest
from xorbench import check
from xorbench.pytest_plugin import XorbenchFixture

FOLDER = Path(__file__).parent.parent  # where the scripts are
CNN = "python cnn.py --images 64 --epochs 3"  # 2 steps per epoch, a checkpoint after each epoch


def test_a_command_is_reproducible(xorbench: XorbenchFixture) -> None:
    """The first 5 steps; two runs by default."""
    xorbench.check("python gpt.py", steps=5, folder=FOLDER)


def test_a_killed_training_resumes_exactly(xorbench: XorbenchFixture) -> None:
    """Two kills: one step after a checkpoint, and directly after a checkpoint."""
    xorbench.check(CNN, resume=f"{CNN} --resume", kill_after=[3, 4], folder=FOLDER)


def train_without_a_seed() -> None:
    """A training with different results in every run."""
    import torch  # imported in the training, so pytest does not load it

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = model(torch.ones(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.xfail(strict=True, reason="nothing seeds it; --runxfail shows how such a test fails")
def test_a_function_that_is_not_reproducible_fails_its_test(xorbench: XorbenchFixture) -> None:
    """A function at the top level of a module is checked like a command."""
    xorbench.check(train_without_a_seed, folder=FOLDER)


def test_a_result_has_the_first_divergence(tmp_path: Path) -> None:
    """Without the fixture, your test judges the result."""
    result = check(train_without_a_seed, folder=FOLDER, out=tmp_path)
    assert not result
    assert result.exit_code == 1
    assert result.first_divergence is not None
    assert result.first_divergence.step == 0
    assert result.first_divergence.component == "parameters"
