"""One whole training of each default case: its time, with the proof that it trained right.

    pytest bench -m quick    (20 seconds; all cases take three minutes)
    pytest bench --benchmark-autosave
    pytest bench --benchmark-compare --benchmark-compare-fail=median:10%
    pytest bench --benchmark-compare --benchmark-histogram    (with pytest-benchmark[histogram])

Each round trains a fresh model. The timer is the host's clock, so the device is synchronized
before the round ends.
"""

from typing import Any

import pytest
import torch

from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.matrix import expand
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.tensor_digest import state_sha256
from xorbench.xor.training.training import Training, synchronize

RECIPE = Recipe()
ROUNDS = 3


def devices() -> tuple[str, ...]:
    """The CPU, and the accelerator if there is one."""
    if not torch.accelerator.is_available():  # PyTorch 2.6 raises if asked for one that is missing
        return ("cpu",)
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    return ("cpu", accelerator.type)


# Their values name a case; each is a column of a CSV export.
SETTINGS = ("device", "engine", "batch_size", "pin_memory", "drop_last", "num_workers", "seed")
ENGINES = ("loader", "fetch", "tensor", "replay")


def cases(*, quick: bool) -> list[Case]:
    """The cases of `run`, or of `run --quick`, and one case per engine at batch 128."""
    engines = [Case(device, engine=engine) for device in devices() for engine in ENGINES]
    return [*dict.fromkeys([*expand(RECIPE, {"device": devices()}, quick=quick), *engines])]


def parameters() -> list[Any]:
    """All cases, each by its settings; those of the quick selection are marked."""
    quick = cases(quick=True)
    return [
        pytest.param(
            *(getattr(case, name) for name in SETTINGS),
            id=case.id,
            marks=[pytest.mark.quick] if case in quick else [],
        )
        for case in cases(quick=False)
    ]


def train(training: Training) -> None:
    """The whole budget of epochs, to the end of the last kernel."""
    for _ in range(training.recipe.epochs):
        training.run_epoch()
    synchronize(training.device)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
@pytest.mark.parametrize(SETTINGS, parameters())
def test_training(
    device: str,
    engine: str,
    batch_size: int,
    pin_memory: bool,
    drop_last: bool,
    num_workers: int,
    seed: int,
    benchmark: Any,
) -> None:
    """Every round reaches 100% on the test points, with the same bits."""
    case = Case(device, engine, batch_size, pin_memory, drop_last, num_workers, seed)
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
