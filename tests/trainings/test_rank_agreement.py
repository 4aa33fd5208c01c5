"""`check` compares the ranks of one run: real processes, two ranks, gloo."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import call_in

SCRIPT = Path(__file__).parents[1] / "ranks" / "training.py"


def checked(folder: Path, *words: str) -> dict[str, Any]:
    """Check the training on two ranks; return its result."""
    shutil.copy(SCRIPT, folder)
    command = ("python", "training.py", "--processes", "2", "--steps", "5", *words)
    done = call_in(
        folder, "check", "--json", "--", *command, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["exit_code"] == done.returncode
    return result


def test_gradients_that_are_not_reduced_are_found_in_one_run(tmp_path: Path) -> None:
    """`no_sync` around the last backward pass: the step and the parameter are named."""
    result = checked(tmp_path, "--fault", "no_sync")
    assert result["sentence"] == (
        "ranks disagree: rank 1 differs from rank 0 first in step 3,"
        " in the gradient of ffn.w1.weight"
    )
    assert (result["exit_code"], result["step"], len(result["runs"])) == (1, 3, 1)


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        ("learning rate", "0, in the hyperparameters: learning rate (lr) 0.01 and 0.02"),
        ("changed parameter", "4, in parameter ffn.w2.bias"),
        ("no broadcast", "1, in buffer ffn.norm.running_mean"),
    ],
)
def test_what_differs_between_ranks_is_named(tmp_path: Path, fault: str, place: str) -> None:
    """A hyperparameter, a parameter, a broadcast buffer."""
    result = checked(tmp_path, "--batchnorm", "--fault", fault)
    assert result["sentence"].partition("first in step ")[2] == place
    assert result["exit_code"] == 1


def test_correct_ranks_agree_with_own_statistics_and_masks(tmp_path: Path) -> None:
    """BatchNorm's buffers and dropout's masks differ between ranks by design."""
    words = ("--batchnorm", "--dropout", "0.5", "--accumulate", "2")
    result = checked(tmp_path, *words)
    assert result["outcome"] == "pass", result["sentence"]
    assert result["details"]["replicated tensors"] == (
        "identical on the ranks: 6 parameters, 3 buffers, 6 gradients, hyperparameters"
    )


def test_shards_are_not_compared_and_listed(tmp_path: Path) -> None:
    """The shards of FSDP2 differ; the optimizer's hyperparameters must not."""
    pytest.importorskip("torch", "2.7", reason="PyTorch 2.6 cannot train FSDP2 on a CPU")
    result = checked(tmp_path, "--layout", "fsdp2")
    assert result["outcome"] == "pass", result["sentence"]
    assert result["details"]["replicated tensors"] == (
        "identical on the ranks: hyperparameters; not compared: 4 parameters (shards)"
    )


def test_a_module_with_a_communication_hook_is_listed(tmp_path: Path) -> None:
    """A hook may reduce in its own way."""
    result = checked(tmp_path, "--hook", "--fault", "no_sync")
    assert result["outcome"] == "pass", result["sentence"]
    assert "4 parameters (a communication hook)" in result["details"]["replicated tensors"]
