"""The fused GPU kernels without a GPU: interpreted logic and compiled code."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_sweep import made_by

triton = pytest.importorskip("triton", reason="Triton is not installed")

# In a process of its own: the interpreter is chosen when a kernel is defined.
AGREE = """
import warnings
warnings.simplefilter("ignore", RuntimeWarning)  # the probe overflows on purpose
from functools import partial
from xorbench.machine.universal import numpy_backend, probe, triton_backend
from xorbench.machine.universal.spec import UniversalRecipe
from xorbench.machine.universal.trained import Keep

for batch_size, drop_last in ((64, False), (50, True), (128, True), (300, True), (299, False)):
    recipe = UniversalRecipe(
        train_size=300, test_size=60, epochs=2, batch_size=batch_size, drop_last=drop_last
    )
    ours, theirs = (
        train(recipe, [0, 5, 9], keep=Keep.EPOCHS, score_epochs=True)
        for train in (partial(triton_backend.train, device="cpu"), numpy_backend.train)
    )
    for i in range(3):
        assert ours.epoch_digests(i) == theirs.epoch_digests(i), recipe
    assert ours.correct.tolist() == theirs.correct.tolist()
    assert ours.epoch_correct.tolist() == theirs.epoch_correct.tolist()
probed = probe.probe(partial(triton_backend.evaluate, device="cpu"))
assert [miss for group in probed for miss in group.misses] == []
print("agree")
"""


def test_the_interpreted_kernels_are_bitwise_identical_to_the_oracle() -> None:
    """Points, epoch digests, scores and every edge case of the probe are equal."""
    done = subprocess.run(
        [sys.executable, "-c", AGREE],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "agree\n", done.stderr


def test_a_sweep_with_the_gpu_kernels_has_equal_counts(tmp_path: Path) -> None:
    """The kernels are interpreted on the CPU, which tests their logic."""
    tiny = (
        *("sweep", "--seeds", "0-2", "--batch-sizes", "16", "--train-size", "40"),
        *("--test-size", "20", "--epochs", "2", "--drop-last", "false"),
    )
    interpreted = os.environ | {"TRITON_INTERPRET": "1"}
    found = made_by(tmp_path / "triton", *tiny, "--backend", "triton", env=interpreted)
    assert found == made_by(tmp_path / "numpy", *tiny, "--backend", "numpy")


def compiled(kernel: Any, pointers: dict[str, str], constants: dict[str, Any], exact: bool) -> str:
    """The PTX of a kernel for compute capability 9.0, made without a GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = pointers | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    target = GPUTarget("cuda", 90, 32)
    code = triton.compile(source, target=target, options={"enable_fp_fusion": not exact})
    ptx: str = code.asm["ptx"]
    return ptx


def epoch_ptx(*, exact: bool) -> str:
    """The PTX of the training kernel with a short last batch."""
    from xorbench.machine.universal import triton_backend

    floats = ("weights", "x0s", "x1s", "labels")
    pointers = dict.fromkeys(floats, "*fp32") | {"order": "*i32", "n": "i32", "whole": "i32"}
    pointers |= dict.fromkeys(("inverse", "inverse_short", "lr"), "fp32")
    constants = {
        "BATCH": 128,
        "ROWS": 128,
        "LEVELS": 7,
        "SHORT": 68,
        "SHORT_ROWS": 128,
        "SHORT_LEVELS": 7,
    }
    return compiled(triton_backend._epoch, pointers, constants, exact)


def float_operations(ptx: str) -> set[str]:
    """The float32 arithmetic instructions in the code."""
    return set(re.findall(r"\b((?:fma|mad|div|add|sub|mul|rcp|ex2)\.[\w.]*f32)\b", ptx))


def test_the_compiled_kernel_rounds_every_operation_separately() -> None:
    """It has only correctly rounded operations and does not flush subnormals."""
    ptx = epoch_ptx(exact=True)
    assert float_operations(ptx) == {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "div.rn.f32"}
    assert "ftz" not in ptx


def test_a_kernel_with_fusion_has_fused_operations() -> None:
    """The test above can fail."""
    operations = float_operations(epoch_ptx(exact=False))
    assert operations != {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "div.rn.f32"}


def test_without_a_gpu_the_backend_has_a_reason() -> None:
    """Triton may be installed without a supported device."""
    import torch

    from xorbench.machine.universal.backends import BACKENDS

    reason = BACKENDS["triton"].missing()
    assert (reason is None) == torch.cuda.is_available()


@pytest.mark.gpu
def test_the_golden_values_on_the_gpu() -> None:
    """Every golden value and every edge case is correct on the GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    from xorbench.machine.universal import golden
    from xorbench.machine.universal.backends import BACKENDS

    backend = BACKENDS["triton"].load("cuda")
    assert [c for c in golden.check(backend.train, backend.evaluate) if not c.passed] == []
