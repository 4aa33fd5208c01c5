"""The same training in double precision: the measure of how far a training is from the truth.

NumPy and the derivative by hand: another arithmetic than PyTorch's. The order of the points comes
from NumPy's own reading of the generator, so that a wrong `randperm` deceives nobody; points and
initial weights are PyTorch's, which `golden_inputs` compares with that reading.

A training is followed in two ways. *Alone*, from its first epoch on, which shows how float32
drifts away. And *epoch by epoch*, each from the weights that were recorded before it: what is wrong
in an epoch then shows in that epoch, in ulps, however far the training has drifted. All epochs are
done side by side.
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

MOST_AT_ONCE: Final = 1 << 22  # hidden values of a step of all epochs that are done side by side
CLOSE: Final = 1e-4  # a logit nearer to zero than this is no prediction
Array = npt.NDArray[Any]
Weights = tuple[Array, Array, Array, Array]

STORED: Final = {"float32": "<f4", "bfloat16": "<f4", "float64": "<f8"}
TF32_BITS: Final = 11  # of the significand, as everywhere here with the bit that is not stored
BFLOAT16_BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Followed:
    """The result of a training in double precision: see the record `Float64Reference`."""

    inputs_sha256: str
    weights: list[str]
    error_ulps: list[float]
    control_ulps: list[float]
    losses: list[float]
    predictions: str
    test: tuple[int, int]
    train: tuple[int, int]


def follow(
    case: Case, recipe: Recipe, recorded: Sequence[str], rate: float | None = None
) -> Followed | None:
    """Follow a training whose weights after each epoch are given in hex; None where it is too long.

    Neither the engine of the case nor an injected fault changes anything here. `rate` is the
    learning rate, by default the recipe's: who asks from another process can give its own.
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
    course = _Course(case, recipe, inputs, rate)
    with np.errstate(over="ignore", invalid="ignore"):  # of a training that diverges
        truth, losses = course.epochs(after[:-1], np.float64)
        control, _ = course.epochs(after[:-1], np.float32, significand(case))
        test = _predictions(inputs.test, after[-1], recipe.hidden, significand(case))
        train = _predictions(inputs.train, after[-1], recipe.hidden, significand(case))
        return Followed(
            inputs_sha256=tensor_digest.sha256(inputs.to(DTYPES[case.dtype]).entries()),
            weights=[flat.astype("<f8").tobytes().hex() for flat in course.alone(first)],
            error_ulps=_errors(after[1:], truth, kind),
            control_ulps=_errors(control, truth, "<f4"),
            losses=losses.tolist(),
            predictions=test,
            test=_right(test, labels(recipe.test_size, case.seed, "test")),
            train=_right(train, labels(recipe.train_size, case.seed, "train")),
        )


def significand(case: Case) -> int | None:
    """Bits that are left of the operands of a product; None where all of the dtype's are."""
    if case.dtype == "bfloat16":
        return BFLOAT16_BITS
    return TF32_BITS if case.tf32 and device_type(case.device) != "cpu" else None


class _Course:
    """A training's points, and which of them each step of each epoch takes."""

    def __init__(self, case: Case, recipe: Recipe, inputs: Inputs, rate: float) -> None:
        self._points = inputs.train.points.double().numpy()
        self._labels = inputs.train.labels.double().numpy()
        self._hidden, self._size = recipe.hidden, case.batch_size
        self._steps = recipe.steps(case.batch_size, case.drop_last)
        self._rate = rate
        persistent = case.persistent_workers and case.num_workers > 0
        drawn = orders(case.seed, recipe.train_size, persistent=persistent)
        self._orders = np.stack([o.astype(np.int32) for o in islice(drawn, recipe.epochs)])

    def alone(self, weights: Array) -> Iterator[Array]:
        """The flat weights after each epoch of the training in float64, from its first on."""
        for epoch in range(len(self._orders)):
            ends, _ = self._trained(weights[None], self._orders[epoch : epoch + 1], np.float64)
            weights = ends[0]
            yield weights

    def epochs(self, starts: Array, kind: Any, bits: int | None = None) -> tuple[Array, Array]:
        """Weights after each epoch, (epochs, weights), that starts from its row; last losses."""
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
        """Train one epoch from each row, side by side, in one precision."""
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
    """Rows of flat weights as those of the two layers, each with the rows in front."""
    cuts = np.cumsum([2 * hidden, hidden, hidden])
    w1, b1, w2, b2 = np.split(flat, cuts, axis=1)
    return w1.reshape(-1, hidden, 2), b1, w2.reshape(-1, 1, hidden), b2


def gradients(
    points: Array, labels: Array, weights: Weights, bits: int | None = None
) -> tuple[Weights, Array]:
    """Slopes of the mean binary cross-entropy by each weight, in their order, and the logits.

    points (rows, batch, 2), labels (rows, batch), logits (rows, batch). `bits` rounds what goes
    into a product, and what comes out of one in bfloat16.
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
    """The values with so many bits of significand, to nearest."""
    significand, exponent = np.frexp(values)
    scale = values.dtype.type(2**bits)
    return np.asarray(np.ldexp(np.rint(significand * scale) / scale, exponent))


def _cross_entropy(logits: Array, labels: Array) -> Array:
    each = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    return np.asarray(each.mean(axis=1))


def _errors(weights: Array, truth: Array, kind: str) -> list[float]:
    """Of each row the largest error of a weight, in ulps at the largest; NaN if not finite."""
    ulp = np.spacing(np.abs(truth).max(axis=1).astype(kind)).astype(np.float64)
    errors: list[float] = (np.abs(weights - truth).max(axis=1) / ulp).tolist()
    return errors


def _right(predictions: str, truth: IntArray) -> tuple[int, int]:
    """How many predictions are right at least, and at most."""
    right = sum(answer == str(label) for answer, label in zip(predictions, truth, strict=True))
    return right, right + predictions.count("?")


def _predictions(data: XorPoints, weights: Array, hidden: int, bits: int | None) -> str:
    """The prediction of each point; "?" where the logit is too close to zero for one."""
    row = shaped(weights[None].astype(np.float64), hidden)
    points, labels = data.points.double().numpy(), data.labels.double().numpy()
    _, logits = gradients(points[None], labels[None], row)
    close = CLOSE if bits is None else 4 * 2.0**-bits * np.abs(logits[0]).max(initial=0.0)
    answers = np.where(logits[0] >= 0, "1", "0")
    return "".join(np.where(np.abs(logits[0]) >= close, answers, "?").tolist())
