"""One model, or many, of the same network: xorbench's kernels beside JAX, scikit-learn, PyTorch.

    tox -e peers -- --rounds 20

Everything runs on one core, in float32: 2,500 points, batches of 128, the same network and rate.
Each round times every peer in random order; a ratio is paired within its round, its centre is the
geometric mean, its interval Student's t (95%). Each peer must classify its own test points, or its
speed means nothing. Compiling is left out. JAX is written in two ways, as a user would (`jnp.tanh`
and `jax.grad` of the cross entropy) and with the arithmetic of the universal training; the faster
one is the peer.

The limit: what the arithmetic of an epoch takes at least, at the rates that this core reaches in
loops of multiply-and-add and of divisions alone, which are measured in the same rounds.
"""

# ruff: noqa: E402 - the core and its flags must be set before JAX and PyTorch count the cores

import argparse
import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Final

CORE: Final = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORE})  # before any of them counts the cores
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import torch
from ratios import shown
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import nn

from xorbench.machine.universal import numba_backend, numba_single, spec
from xorbench.machine.universal.numba_math import LANES, jit
from xorbench.machine.universal.spec import UniversalRecipe
from xorbench.machine.universal.trained import Keep
from xorbench.recorder.environment import processor
from xorbench.report.text import to_markdown

RECIPE: Final = UniversalRecipe()
MODELS: Final = 256
LEAST_S: Final = 0.1  # of a time: whole trainings, one after the other
LEAST: Final = 0.95  # of the test points that each model must get right
CHUNKS: Final = sum(-(-(piece.stop - piece.start) // LANES) for piece in RECIPE.batches)
DIVISIONS: Final = 5  # of a point: four hidden units and the output
OTHERS: Final = 132 + 17  # other operations of a point, and what adds its 17 gradients to a sum
Timed = Callable[[], tuple[float, float]]
"""Trains, and gives epochs (of models) per second and the share of test points right."""


def timed(work: Callable[[], Any], epochs: int) -> tuple[float, Any]:
    """Epochs per second, and what the work gave; it is done again for as long as LEAST_S."""
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < LEAST_S:
        found = work()
        done += epochs
    return done / (time.perf_counter() - start), found


# ------------------------------------------------------------------------------------ xorbench


def one_model() -> tuple[float, float]:
    """The kernel of one model."""

    def train() -> None:
        stepper.restart()
        stepper.advance(RECIPE.epochs)

    stepper = numba_single.NumbaStepper(RECIPE, 0)
    speed, _ = timed(train, RECIPE.epochs)
    return speed, stepper.score() / RECIPE.test_size


def many_models() -> tuple[float, float]:
    """The kernel of a sweep, points of every model included."""
    work = partial(numba_backend.train, RECIPE, range(MODELS), threads=1, keep=Keep.FINAL)
    speed, trained = timed(work, RECIPE.epochs * MODELS)
    return speed, float(np.median(trained.correct)) / RECIPE.test_size


# ----------------------------------------------------------------------------------------- JAX


def as_a_user(w: Any, x: Any, label: Any) -> Any:
    """The gradient as JAX derives it."""

    def loss(w: Any) -> Any:
        z = logits(jnp.tanh, w, x)
        return jnp.mean(jnp.maximum(z, 0) - z * label + jnp.log1p(jnp.exp(-jnp.abs(z))))

    return jax.grad(loss)(w)


def rational_tanh(x: Any) -> Any:
    """Lambert's continued fraction, as the universal training has it."""
    x = jnp.clip(x, -spec.TANH_LIMIT, spec.TANH_LIMIT)
    s = x * x
    p0, p1, p2 = spec.TANH_P
    q0, q1, q2, q3 = spec.TANH_Q
    return x * (((s + p0) * s + p1) * s + p2) / (((s * q0 + q1) * s + q2) * s + q3)


def logits(tanh: Callable[[Any], Any], w: Any, x: Any) -> Any:
    """The network, [m, 2] to [m]."""
    return tanh(x @ w["w1"].T + w["b1"]) @ w["w2"] + w["b2"]


def by_hand(w: Any, x: Any, label: Any) -> Any:
    """The gradient written out, with the arithmetic of the universal training."""
    h = rational_tanh(x @ w["w1"].T + w["b1"])
    y = rational_tanh((h @ w["w2"] + w["b2"]) * 0.5) * 0.5 + 0.5
    d = (y - label) / label.shape[0]
    dh = d[:, None] * w["w2"] * (1 - h * h)
    return {"w1": dh.T @ x, "b1": dh.sum(0), "w2": d @ h, "b2": d.sum()}


def scanned(gradient: Callable[..., Any], w: Any, x: Any, label: Any, visits: Any) -> Any:
    """A whole training: `lax.scan` over the epochs, and in each over its batches."""

    def step(w: Any, batch: Any) -> Any:
        gradients = gradient(w, x[batch], label[batch])
        return jax.tree.map(lambda one, g: one - RECIPE.lr * g, w, gradients), None

    def epoch(w: Any, batches: Any) -> Any:
        return jax.lax.scan(step, w, batches)[0], None

    return jax.lax.scan(epoch, w, visits)[0]


class JaxPeer:
    """JAX: one model, or all of them by `vmap`."""

    def __init__(self, gradient: Callable[..., Any], models: int) -> None:
        orders = [spec.epoch_order(e, RECIPE.train_size) for e in range(RECIPE.epochs)]
        steps, size = len(RECIPE.batches), RECIPE.batch_size
        visits = np.array([order[: steps * size].reshape(steps, size) for order in orders])
        train = partial(scanned, gradient)
        if models > 1:
            train = jax.vmap(train, in_axes=(0, 0, 0, None))
        self._train = jax.jit(train)
        self._models, seeds = models, range(models)
        made = [spec.points("train", s, RECIPE.train_size, RECIPE.std) for s in seeds]
        tests = [spec.points("test", s, RECIPE.test_size, RECIPE.std) for s in seeds]
        weights = spec.initial_weights(seeds)
        pieces = {"w1": weights[:, :8].reshape(-1, 4, 2), "b1": weights[:, 8:12]}
        pieces |= {"w2": weights[:, 12:16], "b2": weights[:, 16]}
        self._args = [pieces, *(np.stack(part) for part in zip(*map(_x_label, made), strict=True))]
        if models == 1:
            self._args = [jax.tree.map(lambda one: one[0], part) for part in self._args]
        self._args = [jax.tree.map(jnp.asarray, part) for part in (*self._args, visits)]
        self._tests = [_x_label(one) for one in tests]

    def __call__(self) -> tuple[float, float]:
        """Train all of them."""
        work = lambda: jax.block_until_ready(self._train(*self._args))  # noqa: E731
        speed, found = timed(work, RECIPE.epochs * self._models)
        rows = [found] if self._models == 1 else _unstacked(found, self._models)
        shares = [
            float(np.mean((logits(np.tanh, w, x) >= 0) == (label == 1)))
            for w, (x, label) in zip(rows, self._tests, strict=True)
        ]
        return speed, float(np.median(shares))


def _unstacked(weights: Any, models: int) -> list[Any]:
    return [{name: np.asarray(one)[i] for name, one in weights.items()} for i in range(models)]


def _x_label(points: Any) -> tuple[Any, Any]:
    return np.stack([points.x0, points.x1], axis=1), points.label


# --------------------------------------------------------------------- PyTorch, scikit-learn


def bare_torch() -> tuple[float, float]:
    """A loop over slices of a permutation: no DataLoader, no metric."""
    torch.manual_seed(0)
    x, label = (torch.tensor(part) for part in _x_label(_made("train")))
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE.lr)
    loss = nn.BCEWithLogitsLoss()

    def train() -> None:
        for _ in range(RECIPE.epochs):
            order = torch.randperm(RECIPE.train_size)
            for piece in RECIPE.batches:
                batch = order[piece]
                optimizer.zero_grad()
                loss(model(x[batch]).squeeze(1), label[batch]).backward()
                optimizer.step()

    speed, _ = timed(train, RECIPE.epochs)
    tests, right = _x_label(_made("test"))
    with torch.no_grad():
        found = model(torch.tensor(tests)).squeeze(1).numpy() >= 0
    return speed, float(np.mean(found == (right == 1)))


def sklearn_mlp() -> tuple[float, float]:
    """`MLPClassifier` with the same layers, rate and batches, for as many epochs."""
    model = MLPClassifier(
        (4,), activation="tanh", solver="sgd", batch_size=RECIPE.batch_size, momentum=0.0,
        learning_rate_init=RECIPE.lr, alpha=0.0, max_iter=RECIPE.epochs, tol=0.0,
        n_iter_no_change=RECIPE.epochs, random_state=1,
    )  # fmt: skip
    x, label = _x_label(_made("train"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        speed, _ = timed(lambda: model.fit(x, label), RECIPE.epochs)
    return speed, float(model.score(*_x_label(_made("test"))))


def _made(name: str) -> Any:
    n = {"train": RECIPE.train_size, "test": RECIPE.test_size}[name]
    return spec.points(name, 0, n, RECIPE.std)


# ----------------------------------------------------------------------------------- the limit

WIDE: Final = 8 * LANES  # chains side by side, none of which waits for another
DEEP: Final = 8  # operations between reading a number and writing it
TURNS: Final = 20_000


@jit
def _sums(a: Any, b: Any, turns: int) -> None:
    for _ in range(turns):
        for i in range(a.shape[0]):
            x, y = a[i], b[i]
            x = x * y + y
            x = x * y + y
            x = x * y + y
            a[i] = x * y + y


@jit
def _quotients(a: Any, b: Any, turns: int) -> None:
    for _ in range(turns):
        for i in range(a.shape[0]):
            x, y = a[i], b[i]
            x = y / (y / (y / (y / x)))
            a[i] = y / (y / (y / (y / x)))


def limit() -> tuple[float, float]:
    """Epochs per second, if divisions and the rest ran side by side at their measured rates."""
    halves = np.full(WIDE, 0.5, np.float32)
    rates = []
    for kernel in (_sums, _quotients):
        speed, _ = timed(partial(kernel, halves.copy(), halves, TURNS), TURNS)
        rates.append(speed * DEEP * WIDE / LANES)
    others, divisions = rates
    return 1 / max(CHUNKS * DIVISIONS / divisions, CHUNKS * OTHERS / others), 1.0


# ------------------------------------------------------------------------------------ the table


def main() -> int:
    """Time every round, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    peers: dict[str, Timed] = {
        "xorbench, one model": one_model,
        "JAX, one model, as a user writes it": JaxPeer(as_a_user, 1),
        "JAX, one model, by hand": JaxPeer(by_hand, 1),
        "bare PyTorch loop": bare_torch,
        "scikit-learn MLPClassifier": sklearn_mlp,
        "limit of one model": limit,
        f"xorbench, {MODELS} models": many_models,
        f"JAX, {MODELS} models by vmap, as a user writes it": JaxPeer(as_a_user, MODELS),
        f"JAX, {MODELS} models by vmap, by hand": JaxPeer(by_hand, MODELS),
    }
    for name, peer in peers.items():  # compiles
        share = peer()[1]
        if share < LEAST:
            sys.exit(f"{name}: {share:.1%} of its test points right: its speed means nothing")
    speeds: dict[str, list[float]] = {name: [] for name in peers}
    draws = random.Random(0)
    for _ in range(rounds):
        for name in draws.sample(list(peers), len(peers)):
            speeds[name].append(peers[name]()[0])
    mine = {True: f"xorbench, {MODELS} models", False: "xorbench, one model"}
    frame = pd.DataFrame(
        {
            "peer": name,
            "model-epochs/s": f"{np.median(values):,.0f}",
            "xorbench ÷ peer": shown(
                np.divide(speeds[mine[f"{MODELS} models" in name]], values), ".3g"
            ),
            "n": str(rounds),
        }
        for name, values in speeds.items()
    )
    versions = f"JAX {jax.__version__}, PyTorch {torch.__version__}"
    print(f"{processor()}, one core; {versions}; batches of {RECIPE.batch_size}\n")
    print(to_markdown(frame.astype(str)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
