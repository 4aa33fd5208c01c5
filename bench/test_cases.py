"""One whole training of each default case: its time, with the proof that it trained right.

    pytest bench --benchmark-autosave
    pytest bench --benchmark-compare --benchmark-compare-fail=median:10%
    pytest bench --benchmark-compare --benchmark-histogram    (with pytest-benchmark[histogram])

Each round trains a fresh model. The timer is the host's clock, so the device is synchronized
before the round ends.
"""

from typing import Any

import pytest
import torch

from xorbench.plan.case import Case
from xorbench.plan.matrix import expand
from xorbench.plan.recipe import Recipe
from xorbench.workload.digest import state_sha256
from xorbench.workload.loop import Training, synchronize

RECIPE = Recipe()
ROUNDS = 3


def devices() -> tuple[str, ...]:
    """The CPU, and the accelerator if there is one."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or not torch.accelerator.is_available():
        return ("cpu",)
    return ("cpu", accelerator.type)


CASES = expand(RECIPE, {"device": devices(), "num_workers": (0,)}, quick=False)

ENGINE_CASES = [
    Case(device, engine=engine)
    for device in devices()
    for engine in ("loader", "fetch", "tensor", "replay")
]


def train(training: Training) -> None:
    """The whole budget of epochs, to the end of the last kernel."""
    for _ in range(training.recipe.epochs):
        training.run_epoch()
    synchronize(training.device)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
@pytest.mark.parametrize("case", dict.fromkeys([*CASES, *ENGINE_CASES]), ids=lambda case: case.id)
def test_training(case: Case, benchmark: Any) -> None:
    """Every round reaches 100% on the test points, with the same bits."""
    trained: list[Training] = []

    def fresh() -> tuple[tuple[Training], dict[str, Any]]:
        trained.append(Training(case, RECIPE))
        return (trained[-1],), {}

    benchmark.group = f"{case.device} batch {case.batch_size}"
    benchmark.pedantic(train, setup=fresh, rounds=ROUNDS)
    digests = {state_sha256(training.model.state_dict()) for training in trained}
    scores = {training.finish().test for training in trained}
    assert len(digests) == len(scores) == 1
    score = scores.pop()
    assert score.correct == score.total
    benchmark.extra_info |= {
        "accuracy": f"{score.correct}/{score.total}",
        "weights_sha256": digests.pop(),
    }
    if benchmark.stats is not None:  # there are none with --benchmark-disable
        samples = RECIPE.epochs * RECIPE.samples(case.batch_size, case.drop_last)
        benchmark.extra_info["samples_per_s"] = samples / benchmark.stats.stats.median
