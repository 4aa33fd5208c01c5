"""Trainings with three frameworks: the answer of `check` is correct for each.

`tox -e corpus -- tests/frameworks` runs them. Models are tiny and made from a configuration;
nothing is downloaded.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xorbench.errors import INCONCLUSIVE

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
RANKS = ("--ranks", "1,2", "--")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}


def checked(folder: Path, script: str, *flags: str, kill_after: str = "") -> dict[str, Any]:
    """The result of `check` on a script; with `kill_after` it is killed and resumed."""
    command = [sys.executable, script, *flags]
    resume = ["--resume", shlex.join([*command, "--resume"]), "--kill-after", kill_after]
    return called(folder, script, *(resume if kill_after else ()), "--", *command)


def called(folder: Path, script: str, *words: str) -> dict[str, Any]:
    """The result of `check` with these words, in a folder with a script."""
    (folder / script).write_bytes((HERE / script).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "xorbench", "check", "--json", *words],
        cwd=folder,
        env={**os.environ, **OFFLINE, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["exit_code"] == done.returncode
    return result


def test_hugging_face_trainer_resumes_exactly(tmp_path: Path) -> None:
    """Killed after 12 steps, it resumes at the checkpoint of step 10, in the middle of an epoch."""
    result = checked(tmp_path, "huggingface_trainer.py", kill_after="12")
    assert result["exit_code"] == 0, result["sentence"]
    assert "resumed at step 10, all 6 remaining steps are identical" in result["sentence"]


def test_hugging_face_trainer_is_reproducible(tmp_path: Path) -> None:
    """With two loader processes, evaluation every 3 steps, clipping and a learning rate schedule.

    Its batches are keyword arguments: three of each step.
    """
    result = checked(tmp_path, "huggingface_trainer.py", "--loaders", "--evaluate")
    assert result["exit_code"] == 0, result["sentence"]
    assert (
        "16 steps, 16 parameters, 0 buffers, 48 module inputs, 16 losses"
        in (result["details"]["coverage"])
    )


def test_lightning_restores_neither_batch_order_nor_generators(tmp_path: Path) -> None:
    """A resume within an epoch continues with the first batches of the epoch."""
    result = checked(tmp_path, "lightning_fit.py", kill_after="7")
    assert result["exit_code"] == 1, result["sentence"]
    assert result["component"] == "data order"
    assert "resumed at step 5: the batch is from step 0" in result["sentence"]
    assert "generator torch cpu" in result["sentence"]


def test_lightning_resumes_exactly_between_epochs_without_dropout(tmp_path: Path) -> None:
    """The data order depends only on the epoch.

    Its gradients are computed within the optimizer's step, in a closure.
    """
    result = checked(tmp_path, "lightning_fit.py", "--correct", kill_after="11")
    assert result["exit_code"] == 0, result["sentence"]
    assert "resumed at step 8, all 8 remaining steps are identical" in result["sentence"]


def test_lightning_is_reproducible(tmp_path: Path) -> None:
    """With clipping, loader processes, evaluation within an epoch, and a teacher by average."""
    flags = ("--loaders", "--evaluate", "--teacher")
    result = checked(tmp_path, "lightning_fit.py", *flags)
    assert result["exit_code"] == 0, result["sentence"]
    assert result["details"]["coverage"].startswith("16 steps, 4 parameters, 0 buffers, 16 module")


def test_lightning_with_two_optimizers_is_reproducible(tmp_path: Path) -> None:
    """Manual optimization: a GAN makes two steps per iteration."""
    result = checked(tmp_path, "lightning_gan.py")
    assert result["exit_code"] == 0, result["sentence"]
    assert result["details"]["coverage"].startswith("16 steps, 8 parameters, 0 buffers, 16 module")


def test_lightning_with_noise_from_an_unseeded_generator_is_not_reproducible(
    tmp_path: Path,
) -> None:
    """The input noise of the GAN comes from an unseeded generator."""
    result = checked(tmp_path, "lightning_gan.py", "--noise")
    assert result["exit_code"] == 1
    assert (result["component"], result["step"]) == ("batch", 0)
    assert "seed() of a generator at lightning_gan.py:26" in result["hint"]


@pytest.mark.parametrize("flags", [(), ("--sampler",)])
def test_accelerate_restores_the_generators_too_early(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """`load_state` restores them, and the loader uses them before the first batch.

    Without a seedable sampler this changes the batch, with one only dropout.
    """
    result = checked(tmp_path, "accelerate_loop.py", *flags, kill_after="7")
    assert result["exit_code"] == 1, result["sentence"]
    assert result["component"] == "generators"
    effect = "the loss differs" if flags else "the batch differs"
    assert f"resumed at step 5: {effect}: the generator torch cpu" in result["sentence"]


def test_accelerate_resumes_exactly_if_no_generator_is_used(tmp_path: Path) -> None:
    """A seedable sampler and no dropout: weights, optimizer, scheduler and batches are restored."""
    flags = ("--sampler", "--plain")
    result = checked(tmp_path, "accelerate_loop.py", *flags, kill_after="7,12")
    assert result["exit_code"] == 0, result["sentence"]


def test_accelerate_is_reproducible(tmp_path: Path) -> None:
    """The documented loop with `set_seed`."""
    result = checked(tmp_path, "accelerate_loop.py")
    assert result["exit_code"] == 0, result["sentence"]


def test_lightning_with_a_sum_in_place_of_a_mean_is_found_on_two_ranks(tmp_path: Path) -> None:
    """Lightning starts the ranks itself; its wrapper takes labels that a single rank does not."""
    command = ("python", "lightning_fit.py", "--correct", "--sum", "--ranks", "{ranks}")
    result = called(tmp_path, "lightning_fit.py", *RANKS, *command)
    assert result["sentence"] == (
        "2 ranks are not 1 rank: first in step 0, in the gradient of 0.weight:"
        " 2 times the right one: a sum in place of a mean"
    )
    assert result["details"]["samples"] == "The same in 16 steps"


def test_accelerate_launch_on_cpus_starts_one_process(tmp_path: Path) -> None:
    """Two ranks cannot be compared with one, if both are one."""
    command = ("accelerate", "launch", "--cpu", "--num_processes", "{ranks}", "accelerate_loop.py")
    result = called(tmp_path, "accelerate_loop.py", *RANKS, *command)
    assert result["exit_code"] == INCONCLUSIVE
    assert result["sentence"] == "with 2 ranks: the command started 1 rank, not 2"


@pytest.mark.variant
@pytest.mark.parametrize(
    "command",
    [
        ("python", "lightning_fit.py", "--correct", "--ranks", "{ranks}"),
        (
            *("torchrun", "--standalone", "--nproc-per-node", "{ranks}"),
            *("accelerate_loop.py", "--plain", "--sampler", "--split"),
        ),
    ],
)
def test_two_ranks_of_a_framework_make_the_updates_of_one(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Both split each batch among the ranks."""
    script = next(word for word in command if word.endswith(".py"))
    result = called(tmp_path, script, *RANKS, *command)
    assert result["exit_code"] == 0, result["sentence"]
    assert "same up to rounding: 16 of 16 steps judged" in result["sentence"]
