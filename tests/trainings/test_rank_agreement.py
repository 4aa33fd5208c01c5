"""`check` of several ranks: the ranks of one run, other numbers of ranks, a resume. Real, gloo."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Completed, call_in

from xorbench.errors import BAD_INPUT, INCONCLUSIVE

SCRIPT = Path(__file__).parents[1] / "ranks" / "training.py"
TORCHRUN = f"{Path(sys.executable).with_name('torchrun')} --standalone --nproc-per-node"
SHARDS = pytest.mark.skipif(
    torch.__version__.startswith("2.6"), reason="PyTorch 2.6 cannot train FSDP2 on a CPU"
)


def called(folder: Path, *arguments: str) -> Completed:
    """Run `check` in a folder with the training."""
    shutil.copy(SCRIPT, folder)
    return call_in(folder, "check", *arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})


def checked(folder: Path, *words: str, ranks: str = "") -> dict[str, Any]:
    """Check the training on two ranks, or on these numbers of ranks; return its result."""
    count = ("--ranks", ranks) if ranks else ()
    command = ("python", "training.py", "--processes", "{ranks}" if ranks else "2")
    done = called(folder, "--json", *count, "--", *command, "--steps", "4", *words)
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["exit_code"] == done.returncode
    return result


# The ranks of one run


@pytest.mark.parametrize("optimizer", [(), ("--zero",)])
def test_gradients_that_are_not_reduced_are_found_in_one_run(
    tmp_path: Path, optimizer: tuple[str, ...]
) -> None:
    """`no_sync` around the last backward pass: the step and the parameter are named.

    ZeroRedundancyOptimizer then gives all ranks the same weights.
    """
    result = checked(tmp_path, "--fault", "no_sync", *optimizer)
    assert result["sentence"] == (
        "ranks disagree: rank 1 differs from rank 0 first in step 3,"
        " in the gradient of ffn.w1.weight"
    )
    assert (result["exit_code"], result["step"], len(result["runs"])) == (1, 3, 1)


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        ("learning rate", "0, in the hyperparameters: learning rate (lr) 0.01 and 0.02"),
        ("untrained", "0, in parameter ffn.w1.weight, which its optimizer does not train"),
        ("bare module", "0, in the gradient of ffn.w1.weight"),
        ("no broadcast", "1, in buffer ffn.norm.running_mean"),
    ],
)
def test_what_differs_between_ranks_is_named(tmp_path: Path, fault: str, place: str) -> None:
    """A hyperparameter, a parameter frozen on a rank, a call past the wrapper, and a buffer."""
    result = checked(tmp_path, "--batchnorm", "--fault", fault)
    assert result["sentence"].partition("first in step ")[2] == place
    assert result["exit_code"] == 1


def test_weights_that_differ_after_the_last_step_are_found(tmp_path: Path) -> None:
    """No step reads them."""
    result = checked(tmp_path, "--fault", "changed at the end")
    assert result["exit_code"] == 1
    assert result["sentence"] == (
        "ranks disagree: rank 1 differs from rank 0 after the last step, in parameter ffn.w2.bias"
    )


def test_a_rank_that_stops_stepping_disagrees_at_the_end(tmp_path: Path) -> None:
    """Its weights stay the initial ones; it records no step, so only the ends can be compared."""
    result = checked(tmp_path, "--fault", "no step")
    assert result["exit_code"] == 1
    assert result["sentence"] == (
        "ranks disagree: rank 1 differs from rank 0 after the last step, in parameter ffn.w1.weight"
    )
    assert "Rank 0 made 4 steps, rank 1 0." in result["meaning"]


def test_a_rank_may_also_train_a_model_of_its_own(tmp_path: Path) -> None:
    """Its steps have other numbers, so the weights at the end decide."""
    result = checked(tmp_path, "--fault", "own head")
    assert result["outcome"] == "pass", result["sentence"]
    assert result["details"]["replicated tensors"].endswith(", 4 final parameters")


def test_correct_ranks_agree_with_own_statistics_and_masks(tmp_path: Path) -> None:
    """BatchNorm's buffers and dropout's masks differ between ranks by design.

    A penalty calls the module, for which nothing is broadcast.
    """
    words = ("--batchnorm", "--dropout", "0.5", "--accumulate", "2", "--penalty")
    result = checked(tmp_path, *words)
    assert result["outcome"] == "pass", result["sentence"]
    assert result["details"]["replicated tensors"] == (
        "identical on the ranks: 6 parameters, 3 buffers, 6 gradients, hyperparameters,"
        " 6 final parameters"
    )


@SHARDS
def test_shards_are_not_compared_and_listed(tmp_path: Path) -> None:
    """The shards of FSDP2 differ; the optimizer's hyperparameters must not."""
    result = checked(tmp_path, "--layout", "fsdp2")
    assert result["outcome"] == "pass", result["sentence"]
    assert result["details"]["replicated tensors"] == (
        "identical on the ranks: hyperparameters; not compared: 4 parameters (shards)"
    )


# Different numbers of ranks


@SHARDS
def test_uneven_shards_make_the_updates_of_one_rank(tmp_path: Path) -> None:
    """The sketches of shards add up, and the rows of both ranks are the batch.

    Between two passes, whose gradients FSDP2 does not reduce, unsharded parameters have gradients.
    """
    words = ("--layout", "fsdp2", "--width", "15", "--accumulate", "2")
    result = checked(tmp_path, *words, ranks="1,2")
    assert result["outcome"] == "pass", result["sentence"]
    assert result["sentence"].startswith("2 ranks and 1 rank: same up to rounding: 4 of 4 steps")
    assert result["details"]["samples"] == "The same in 4 steps"


def test_a_missing_reduction_is_named(tmp_path: Path) -> None:
    """Each rank has a share of the gradient, without DistributedDataParallel."""
    result = checked(tmp_path, "--layout", "plain", "--fault", "one not reduced", ranks="1,2")
    assert result["sentence"] == (
        "2 ranks are not 1 rank: first in step 0, in the gradient of ffn.w2.weight:"
        " rank 0 and rank 1 have a share each: a reduction is missing"
    )
    assert (result["exit_code"], len(result["runs"])) == (1, 2)


@pytest.mark.variant
def test_a_rank_without_steps_is_found(tmp_path: Path) -> None:
    """Its optimizer never steps; its batches are the right ones."""
    result = checked(tmp_path, "--fault", "no step", ranks="1,2")
    assert (result["exit_code"], result["sentence"]) == (
        1,
        "with 2 ranks: the ranks make different numbers of steps: rank 0 after 4 steps,"
        " rank 1 after 0 steps",
    )


def test_a_training_that_noise_ends_is_not_judged(tmp_path: Path) -> None:
    """It requires equal bits of two calls of the model, which noise changes."""
    result = checked(tmp_path, "--asserts", ranks="1,2")
    assert result["exit_code"] == INCONCLUSIVE
    assert result["sentence"].startswith("cannot tell: with noise of rounding: the command failed")


def test_a_rank_that_hangs_ends_with_the_steps_of_each_rank(tmp_path: Path) -> None:
    """Rank 1 never enters the all-reduce; the limit is that of each run."""
    command = ("python", "training.py", "--processes", "{ranks}", "--fault", "hang 2")
    done = called(tmp_path, "--ranks", "2,1", "--timeout", "20", "--", *command)
    assert done.returncode == INCONCLUSIVE, done.stderr
    counts = "rank 0 after 2 steps, rank 1 after 2 steps"
    assert done.stdout.startswith("With 2 ranks: the command did not end within 2")
    assert done.stdout.partition("\n")[0].endswith(f" s and was killed: {counts}.")


def test_a_command_that_starts_other_ranks_is_inconclusive(tmp_path: Path) -> None:
    """Two ranks are expected, one trains."""
    command = ("python", "training.py", "--processes", "1", "--seed", "{ranks}", "--steps", "2")
    done = called(tmp_path, "--ranks", "1,2", "--", *command)
    assert done.returncode == INCONCLUSIVE, done.stderr
    assert done.stdout.startswith("With 2 ranks: the command started 1 rank, not 2.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", "1,2", "--", "python", "training.py"), "the command has no {ranks}"),
        (("--ranks", "2", "--", "python", "{ranks}"), "must be two or more numbers of ranks"),
        (("--ranks", "1,2", "--loss", "max", "--", "python", "{ranks}"), "--loss: "),
        (("--loss", "sum", "--", "python", "training.py"), "--loss: needs --ranks LIST"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """Nothing runs."""
    done = called(tmp_path, *arguments)
    assert (done.returncode, message in done.stderr) == (BAD_INPUT, True), done.stderr


# A resume on another number of ranks


@SHARDS
def test_a_shard_that_is_lost_in_a_resume_is_found(tmp_path: Path) -> None:
    """torch.distributed.checkpoint, saved on one rank and loaded on two."""
    training = "training.py --layout fsdp2 --save 1 --steps 5 --fault 'shard lost'"
    resume = f"{TORCHRUN} 2 {training} --resume"
    words = (*TORCHRUN.split(), "1", *training.replace("'shard lost'", "").split(), "shard lost")
    done = called(tmp_path, "--kill-after", "3", "--resume", resume, "--", *words)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(
        "Resume is not exact: killed on 1 rank after 3 steps, resumed on 2 ranks at step 3:"
        " first in step 3, in the initial value of ffn.w2.weight"
    )
