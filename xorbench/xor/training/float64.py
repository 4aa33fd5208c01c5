"""The float64 reference: the same training in double precision, to measure a training's error.

It uses NumPy and a derivative written by hand, independent of PyTorch's arithmetic. The order of
the points comes from NumPy's implementation of the generator, so that a wrong `randperm` is
detected. Points and initial weights are PyTorch's; `golden_inputs` checks them.

A training is recomputed in two ways. The *free run* starts at the first epoch and shows the drift
of float32. *Epoch by epoch*, each epoch starts from the recorded weights before it, so that an
error in an epoch is measured in that epoch, in ulps, independent of the drift. All epochs are
computed at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xorbench.xor.matrix.case import Case, device_type
from xorbench.xor.matrix.recipe import UNIVERSAL_VISITS, Recipe
from xorbench.xor.training import tensor_digest
from xorbench.xor.training.engines.spec import slices
from xorbench.xor.training.golden_inputs import labels, orders
from xorbench.xor.training.mersenne import IntArray
from xorbench.xor.training.problem import Inputs, XorPoints, make_inputs
from xorbench.xor.training.training import DTYPES

MOST_AT_ONCE: Final = 1 << 22  # maximum hidden values of a step, over the epochs computed at once
CLOSE: Final = 1e-4  # a logit closer to zero gives no prediction
Array = npt.NDArray[Any]
Weights = tuple[Array, Array, Array, Array]

STORED: Final = {"float32": "<f4", "bfloat16": "<f4", "float64": "<f8"}
TF32_BITS: Final = 11  # of the significand, with the implicit bit
BFLOAT16_BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Float64Result:
    """The result of the float64 reference; see the record `Float64Reference`."""

    inputs_sha256: str
    weights: list[str]
    error_ulps: list[float]
    control_ulps: list[float]
    losses: list[float]
    predictions: str
    test: tuple[int, int]
    train: tuple[int, int]


def recompute(
    case: Case, recipe: Recipe, recorded: Sequence[str], rate: float | None = None
) -> Float64Result | None:
    """Recompute a training from its recorded weights after each epoch in hex; None if too long.

    The engine of the case and injected faults have no effect. `rate` is the learning rate, by
    default the recipe's.
    """
    if recipe.epochs * recipe.train_size > UNIVERSAL_VISITS:
        return None
    inputs = make_inputs(recipe, case.seed)
    kind = STORED[case.dtype]
    first = np.concatenate([w.detach().numpy().ravel() for w in inputs.model.parameters()])
    after = np.stack(
        [first.astype(kind), *(np.frombuffer(bytes.fromhex(w), kind) for w in recorded)]
    )
    rate = recipe.learning_rate(case.batch_size) if rate is None else rate
    trainer = _Trainer(case, recipe, inputs, rate)
    with np.errstate(over="ignore", invalid="ignore"):  # in a diverging training
        reference, losses = trainer.epochs(after[:-1], np.float64)
        control, _ = trainer.epochs(after[:-1], np.float32, significand(case))
        test = _predictions(inputs.test, after[-1], recipe.hidden, significand(case))
        train = _predictions(inputs.train, after[-1], recipe.hidden, significand(case))
        return Float64Result(
            inputs_sha256=tensor_digest.sha256(inputs.to(DTYPES[case.dtype]).entries()),
            weights=[flat.astype("<f8").tobytes().hex() for flat in trainer.free_run(first)],
            error_ulps=_errors(after[1:], reference, kind),
            control_ulps=_errors(control, reference, "<f4"),
            losses=losses.tolist(),
            predictions=test,
            test=_correct(test, labels(recipe.test_size, case.seed, "test")),
            train=_correct(train, labels(recipe.train_size, case.seed, "train")),
        )


def significand(case: Case) -> int | None:
    """Significand bits of the operands of a product; None for the full dtype."""
    if case.dtype == "bfloat16":
        return BFLOAT16_BITS
    return TF32_BITS if case.tf32 and device_type(case.device) != "cpu" else None


class _Trainer:
    """A training's points and their order in each epoch."""

    def __init__(self, case: Case, recipe: Recipe, inputs: Inputs, rate: float) -> None:
        self._points = inputs.train.points.double().numpy()
        self._labels = inputs.train.labels.double().numpy()
        self._hidden, self._size = recipe.hidden, case.batch_size
        self._steps = recipe.steps(case.batch_size, case.drop_last)
        self._rate = rate
        persistent = case.persistent_workers and case.num_workers > 0
        all_orders = orders(case.seed, recipe.train_size, persistent=persistent)
        self._orders = np.stack([o.astype(np.int32) for o in islice(all_orders, recipe.epochs)])

    def free_run(self, weights: Array) -> Iterator[Array]:
        """The flat weights after each epoch of a float64 training from the initial weights."""
        for epoch in range(len(self._orders)):
            ends, _ = self._trained(weights[None], self._orders[epoch : epoch + 1], np.float64)
            weights = ends[0]
            yield weights

    def epochs(self, starts: Array, kind: Any, bits: int | None = None) -> tuple[Array, Array]:
        """Weights after each epoch, (epochs, weights), started from its row; and last losses."""
        at_once = max(1, MOST_AT_ONCE // (self._size * self._hidden))
        parts = [
            self._trained(starts[rows], self._orders[rows], kind, bits)
            for rows in slices(len(starts), at_once, drop_last=False)
        ]
        ends, losses = zip(*parts, strict=True)
        return np.concatenate(ends), np.concatenate(losses)

    def _trained(
        self, starts: Array, orders: Array, kind: Any, bits: int | None = None
    ) -> tuple[Array, Array]:
        """Train one epoch from each row, all at once, in one precision."""
        weights = shaped(starts.astype(kind), self._hidden)
        points, labels = self._points.astype(kind), self._labels.astype(kind)
        rate = kind(self._rate)
        losses = np.zeros(len(starts))
        for step in range(self._steps):
            index = orders[:, step * self._size : (step + 1) * self._size]
            slopes, logits = gradients(points[index], labels[index], weights, bits)
            if step == self._steps - 1:
                losses = _cross_entropy(logits, labels[index])
            weights = tuple(w - rate * s for w, s in zip(weights, slopes, strict=True))
        return np.concatenate([w.reshape(len(starts), -1) for w in weights], axis=1), losses


def shaped(flat: Array, hidden: int) -> Weights:
    """Rows of flat weights as the weights of the two layers, with the rows as first axis."""
    cuts = np.cumsum([2 * hidden, hidden, hidden])
    w1, b1, w2, b2 = np.split(flat, cuts, axis=1)
    return w1.reshape(-1, hidden, 2), b1, w2.reshape(-1, 1, hidden), b2


def gradients(
    points: Array, labels: Array, weights: Weights, bits: int | None = None
) -> tuple[Weights, Array]:
    """Gradients of the mean binary cross-entropy by each weight, and the logits.

    points (rows, batch, 2), labels (rows, batch), logits (rows, batch). `bits` rounds the operands
    of a product, and in bfloat16 also its result.
    """
    w1, b1, w2, b2 = weights
    hidden = np.tanh(_product(points, w1.swapaxes(1, 2), bits) + b1[:, None, :])
    logits = _product(hidden, w2.swapaxes(1, 2), bits)[..., 0] + b2
    slope = (1 / (1 + np.exp(-logits)) - labels) / points.dtype.type(labels.shape[1])
    inner = slope[..., None] * w2 * (1 - hidden**2)
    by_w1 = _product(inner.swapaxes(1, 2), points, bits)
    by_w2 = _product(slope[:, None, :], hidden, bits)
    return (by_w1, inner.sum(axis=1), by_w2, slope.sum(axis=1, keepdims=True)), logits


def _product(a: Array, b: Array, bits: int | None) -> Array:
    if bits is None:
        return np.asarray(a @ b)
    product = rounded(a, bits) @ rounded(b, bits)
    return rounded(product, bits) if bits == BFLOAT16_BITS else product


def rounded(values: Array, bits: int) -> Array:
    """The values rounded to `bits` bits of significand."""
    significand, exponent = np.frexp(values)
    scale = values.dtype.type(2**bits)
    return np.asarray(np.ldexp(np.rint(significand * scale) / scale, exponent))


def _cross_entropy(logits: Array, labels: Array) -> Array:
    each = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    return np.asarray(each.mean(axis=1))


def _errors(weights: Array, reference: Array, kind: str) -> list[float]:
    """The largest error of each row, in ulps of the largest weight; NaN if not finite."""
    ulp = np.spacing(np.abs(reference).max(axis=1).astype(kind)).astype(np.float64)
    errors: list[float] = (np.abs(weights - reference).max(axis=1) / ulp).tolist()
    return errors


def _correct(predictions: str, expected: IntArray) -> tuple[int, int]:
    """The minimum and maximum number of correct predictions."""
    correct = sum(p == str(label) for p, label in zip(predictions, expected, strict=True))
    return correct, correct + predictions.count("?")


def _predictions(data: XorPoints, weights: Array, hidden: int, bits: int | None) -> str:
    """The prediction of each point; "?" if the logit is too close to zero."""
    row = shaped(weights[None].astype(np.float64), hidden)
    points, labels = data.points.double().numpy(), data.labels.double().numpy()
    _, logits = gradients(points[None], labels[None], row)
    close = CLOSE if bits is None else 4 * 2.0**-bits * np.abs(logits[0]).max(initial=0.0)
    answers = np.where(logits[0] >= 0, "1", "0")
    return "".join(np.where(np.abs(logits[0]) >= close, answers, "?").tolist())
