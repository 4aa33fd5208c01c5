"""Injected faults, to see the checks fail.

``python tests/universal_faults.py`` injects each fault and reports where it is caught. ``--flips
N`` flips one random bit of a weight in each of N trainings, and counts the flips that a digest
after each step detects and the flips that later rounding removes.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, Final

import numpy as np
import torch

from xorbench.errors import CHECK_FAILED, PASSED
from xorbench.machine.universal import golden, numpy_backend, spec
from xorbench.machine.universal.backends import BACKENDS
from xorbench.machine.universal.numpy_backend import gradients, step, tanh
from xorbench.machine.universal.probe import probe
from xorbench.machine.universal.spec import (
    B1,
    HIDDEN,
    W1,
    Bits,
    Floats,
    Integers,
    UniversalPoints,
    UniversalRecipe,
)
from xorbench.machine.universal.trained import Evaluate, Keep, Train

SHORT: Final = UniversalRecipe(epochs=2)
"""Every injected fault must show in the golden digests of the first epochs."""
SKIPPED_BATCH: Final = 7
SIGN: Final = np.uint32(0x80000000)
MAGNITUDE: Final = np.uint32(0x7FFFFFFF)
FIRST_NORMAL: Final = np.uint32(0x00800000)


@dataclass(frozen=True)
class Fault:
    """One fault, and the check that must catch it.

    ``needs`` is the backend of the fault. ``catch`` injects it and returns where it was caught, or
    None. It raises ``CannotInject`` if the machine does not support the fault.
    """

    name: str
    needs: str
    catch: Callable[[], str | None]


class CannotInject(Exception):
    """The fault cannot occur on this machine."""


def in_epoch_digests(train: Train) -> str | None:
    """The golden epoch digest of seed 0 that catches a training, or None."""
    epoch_digests = train(SHORT, [0], keep=Keep.EPOCHS).epoch_digests()
    checked = golden.compare_epoch_digests(
        epoch_digests, golden.load().epoch_digests[: SHORT.epochs]
    )
    return None if checked.passed else checked.what


def in_probe(evaluate: Evaluate) -> str | None:
    """The first case of the probe that catches a backend's arithmetic, or None."""
    misses = [miss for probed in probe(evaluate) if not probed.passed for miss in probed.misses]
    return f"probe: {misses[0]}" if misses else None


# ------------------------------------------------------------------------- faults of the oracle


@contextmanager
def replaced(module: ModuleType, **functions: Callable[..., Any]) -> Iterator[None]:
    """Replace functions of a module within the context. Not thread-safe."""
    before = {name: getattr(module, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(module, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)


def in_oracle(**functions: Callable[..., Any]) -> str | None:
    """The epoch digest that catches the oracle with replaced functions, or None."""
    with replaced(numpy_backend, **functions):
        return in_epoch_digests(numpy_backend.train)


def fused(a: Floats, b: Floats, c: Floats) -> Floats:
    """``a*b + c`` with one rounding, since a product of float32 is exact in float64."""
    wide = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
    return wide.astype(np.float32)


def fused_hidden(w: Floats, x0: Floats, x1: Floats) -> list[Floats]:
    """The hidden activations of a contracting compiler."""
    return [tanh(fused(x0, w[W1[j][0]], x1 * w[W1[j][1]]) + w[B1[j]]) for j in range(HIDDEN)]


def sequential_sum(g: Floats) -> Floats:
    """Sequential sum over the points, [17, S, m] to [17, S, 1]."""
    return np.add.accumulate(g, axis=-1)[..., -1:]


def matrix_hidden(w: Floats, x0: Floats, x1: Floats) -> list[Floats]:
    """The hidden activations by a matrix product, S by S."""
    x = np.stack([x0, x1], axis=-1)
    z = np.matmul(x, w[np.array(W1).T, :, 0].transpose(2, 0, 1))
    return [tanh(z[..., j] + w[B1[j]]) for j in range(HIDDEN)]


def matrix_sum(g: Floats) -> Floats:
    """Sum over the points by a matrix product with ones."""
    total: Floats = np.matmul(g, np.ones((g.shape[-1], 1), dtype=np.float32))
    return total


def skipping(number: int) -> Callable[[Floats, UniversalPoints, np.float32], Floats]:
    """A step that skips its ``number``-th batch."""
    calls = iter(range(sys.maxsize))

    def skip(w: Floats, batch: UniversalPoints, lr: np.float32) -> Floats:
        return w if next(calls) == number else step(w, batch, lr)

    return skip


def stale_step(w: Floats, batch: UniversalPoints, lr: np.float32) -> Floats:
    """A step whose gradient lacks its last point."""
    return w - numpy_backend.tree_sum(gradients(w, batch)[..., :-1]) * lr


def flushing(evaluate: Evaluate) -> Evaluate:
    """Arithmetic that flushes subnormal inputs and outputs to a zero of the same sign."""

    def flushed(operation: str, a: Bits, b: Bits, c: Bits) -> Bits:
        return flush(evaluate(operation, flush(a), flush(b), flush(c)))

    return flushed


def flush(bits: Bits) -> Bits:
    """Bit patterns with subnormals replaced by zeros of the same sign."""
    return np.where((bits & MAGNITUDE) < FIRST_NORMAL, bits & SIGN, bits)


def reciprocal(evaluate: Evaluate) -> Evaluate:
    """Arithmetic that divides by a reciprocal, with two roundings."""

    def divided(operation: str, a: Bits, b: Bits, c: Bits) -> Bits:
        if operation != "div":
            return evaluate(operation, a, b, c)
        ones = np.full_like(a, np.float32(1).view(np.uint32))
        return evaluate("mul", a, evaluate("div", ones, b, c), c)

    return divided


# ----------------------------------------------------------------------- faults of the compiler


def recompiled(module: dict[str, Any], **changes: Any) -> Any:
    """A kernel's ``_train`` recompiled with different options of ``numba.njit``.

    ``module`` holds the names of its module.
    """
    import numba

    from xorbench.machine.universal import numba_math

    namespace = {**vars(numba_math), **module}
    names = [name for name, value in namespace.items() if hasattr(value, "py_func")]
    for name in names:
        code = namespace[name].py_func.__code__
        plain = FunctionType(code, namespace, name)  # so that it calls recompiled functions
        namespace[name] = numba.njit(**{**numba_math.OPTIONS, **changes})(plain)
    return namespace["_train"]


def fuses(kernel: Any) -> bool:
    """Whether the machine code of a recompiled kernel has fused multiply-adds."""
    code = "\n".join(kernel.inspect_asm().values())
    return re.search(r"\bv?fn?m(add|sub|la|ls)", code) is not None  # x86 and ARM


def contracted_kernel() -> str | None:
    """Train with a kernel that is compiled with contraction."""
    from xorbench.machine.universal import numba_backend

    kernel = recompiled(vars(numba_backend), fastmath={"contract"})
    caught = in_epoch_digests(partial(numba_backend.train, kernel=kernel))
    if caught is None and not fuses(kernel):
        raise CannotInject("this instruction set has no fused multiply-add")
    return caught


@contextmanager
def flushing_subnormals() -> Iterator[bool]:
    """Make the processor flush subnormals within the context; yield whether it supports that."""
    try:
        yield torch.set_flush_denormal(True)
    finally:
        torch.set_flush_denormal(False)


def processor_flushing() -> str | None:
    """Probe torch while the processor flushes subnormals."""
    from xorbench.machine.universal import torch_backend

    with flushing_subnormals() as possible:
        if not possible:
            raise CannotInject("this processor cannot flush subnormals")
        return in_probe(torch_backend.evaluate)


FAULTS: Final = (
    Fault("multiply-add contracted into one rounding", "numpy",
          partial(in_oracle, hidden=fused_hidden)),
    Fault("kernel compiled to contract", "numba", contracted_kernel),
    Fault("sum in a different order", "numpy", partial(in_oracle, tree_sum=sequential_sum)),
    Fault("matrix product instead of explicit products", "numpy",
          partial(in_oracle, hidden=matrix_hidden, tree_sum=matrix_sum)),
    Fault("one batch skipped", "numpy", lambda: in_oracle(step=skipping(SKIPPED_BATCH))),
    Fault("one point lost from every sum", "numpy", partial(in_oracle, step=stale_step)),
    Fault("different tanh", "numpy", partial(in_oracle, tanh=np.tanh)),
    Fault("subnormals flushed", "numpy", lambda: in_probe(flushing(numpy_backend.evaluate))),
    Fault("subnormals flushed by the processor", "torch", processor_flushing),
    Fault("division by a reciprocal", "numpy",
          lambda: in_probe(reciprocal(numpy_backend.evaluate))),
)  # fmt: skip
"""All faults by effect."""


# -------------------------------------------------------------------------------- flipped bits


@dataclass(frozen=True)
class Flips:
    """The outcome of flipped bits, one in each of ``count`` trainings.

    Attributes:
        seen: number of flips that change the digest after their step.
        absorbed_at_once: number of flips that the next step's rounding removes.
        absorbed: number of flips without effect on the final weights.
    """

    count: int
    seen: int
    absorbed_at_once: int
    absorbed: int


def flip_bits(count: int, recipe: UniversalRecipe = SHORT, seed: int = 0) -> Flips:
    """Train ``count`` copies of one seed; in each, flip one bit of one weight after one step.

    The bit flips in memory between the step and its digest. Step, weight and bit are random.
    """
    steps, columns, places = random_flips(count, recipe.steps, seed)
    clean = numpy_backend.train(recipe, [seed], keep=Keep.STEPS)
    step_digests = clean.epoch_digests()
    seen = at_once = 0
    w = np.repeat(spec.initial_weights([seed]).T[:, :, None], count, axis=1)
    with np.errstate(all="ignore"):  # a flipped exponent may overflow
        for number, batch in enumerate(batches(recipe, seed)):
            struck_before = steps == number - 1
            w = step(w, batch, np.float32(recipe.lr))
            same = (bits_of(w) == bits_of(clean.kept[number].T[:, :, None])).all(axis=(0, 2))
            at_once += int(np.count_nonzero(same & struck_before))
            struck = np.flatnonzero(steps == number)
            bits_of(w)[columns[struck], struck, 0] ^= places[struck]
            digests = spec.digests(w[:, struck, 0].T)
            seen += sum(digest != step_digests[number] for digest in digests)
    final = (bits_of(w) == bits_of(clean.weights.T[:, :, None])).all(axis=(0, 2))
    return Flips(count, seen, at_once, int(np.count_nonzero(final)))


def random_flips(count: int, steps: int, seed: int) -> tuple[Integers, Integers, Bits]:
    """Random steps, columns and bits (as masks), [count] each."""
    words = spec.u64(spec.key("injected-flips", seed), 0, 3 * count).reshape(3, count)
    step, column, bit = (words >> np.uint64(16)) % np.array([[steps], [spec.SIZE], [32]], np.uint64)
    return step.astype(np.int64), column.astype(np.int64), np.uint32(1) << bit.astype(np.uint32)


def batches(recipe: UniversalRecipe, seed: int) -> Iterator[UniversalPoints]:
    """The batches of every step of one seed, [1, m] each."""
    points = spec.ensemble_points("train", [seed], recipe.train_size, recipe.std)
    for epoch in range(recipe.epochs):
        order = spec.epoch_order(epoch, recipe.train_size)
        for piece in recipe.batches:
            yield UniversalPoints(*(part[:, order[piece]] for part in points))


def bits_of(w: Floats) -> Bits:
    """The same memory as bit patterns."""
    return w.view(np.uint32)


# ------------------------------------------------------------------------------- command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Inject each fault, or flip bits; return the exit code."""
    parser = argparse.ArgumentParser(prog="python tests/universal_faults.py", description=__doc__)
    parser.add_argument("--flips", type=int, metavar="N", help="flip N bits instead")
    options = parser.parse_args(arguments)
    if options.flips is None:
        missed = [fault for fault in FAULTS if not injected(fault)]
        return CHECK_FAILED if missed else PASSED
    flips = flip_bits(options.flips, UniversalRecipe())
    sys.stdout.write(
        f"{flips.count} bits flipped: {flips.seen} detected by the digests of the steps, "
        f"{flips.absorbed_at_once} removed by the next step, "
        f"{flips.absorbed} without effect on the final digest\n"
    )
    return PASSED if flips.seen == flips.count else CHECK_FAILED


def injected(fault: Fault) -> bool:
    """Inject one fault and report it; False if it is not caught."""
    if reason := BACKENDS[fault.needs].missing():
        sys.stdout.write(f"skip {fault.name}: {reason}\n")
        return True
    try:
        caught = fault.catch()
    except CannotInject as reason:
        sys.stdout.write(f"skip {fault.name}: {reason}\n")
        return True
    sys.stdout.write(f"{'caught' if caught else 'MISSED'} {fault.name}: {caught or 'nowhere'}\n")
    return caught is not None


if __name__ == "__main__":
    sys.exit(main())
