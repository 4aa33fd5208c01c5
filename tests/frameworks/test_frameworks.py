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

HERE = Path(__file__).parent
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}


def checked(folder: Path, script: str, *flags: str, kill_after: str = "") -> dict[str, Any]:
    """The result of `check` on a script; with `kill_after` it is killed and resumed."""
    (folder / script).write_bytes((HERE / script).read_bytes())
    command = [sys.executable, script, *flags]
    options = ["--resume", shlex.join([*command, "--resume"]), "--kill-after", kill_after]
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "xorbench",
                "check",
                "--json",
                *(options if kill_after else ()),
            ),
            *("--", *command),
        ],
        cwd=folder,
        env={**os.environ, **OFFLINE},
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
