"""Compare a device with the golden values: the facts that `run` and `canary` judge; the burn-in."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xorbench.universal import golden, spec
from xorbench.universal.backends import LoadedBackend
from xorbench.universal.golden import Checked
from xorbench.universal.spec import UniversalRecipe
from xorbench.universal.trained import Keep, Train


def arithmetic(backend: LoadedBackend) -> list[Checked]:
    """The probe of float32's edge cases, a fact a group."""
    return list(golden.check_probe(backend.evaluate))


def training(backend: LoadedBackend) -> list[Checked]:
    """Seed 0 of the default recipe: its digest and score, and the first epoch that differs."""
    recipe = UniversalRecipe()
    trained = backend.train(recipe, [0], keep=Keep.EPOCHS)
    right = golden.load().answers[recipe][0]
    return [
        Checked("digest of seed 0", right.sha256, trained.digests()[0]),
        golden.compare_epoch_digests(trained.epoch_digests(), golden.load().epoch_digests),
        Checked(
            "score", f"{trained.total}/{trained.total}", f"{trained.correct[0]}/{trained.total}"
        ),
    ]


class Flip(NamedTuple):
    """An injected fault: one bit of one model's last weight."""

    model: int
    bit: int


class Mismatch(NamedTuple):
    """A model that did not end at its golden digest."""

    model: int
    seed: int
    expected: str
    actual: str


def burn(train: Train, models: int, flip: Flip | None = None) -> list[Mismatch]:
    """Train S models at once, the golden seeds over and over, and check every one of them."""
    recipe = UniversalRecipe()
    answers = golden.load().answers[recipe]
    right = [answers[model % len(answers)] for model in range(models)]
    weights = train(recipe, [answer.seed for answer in right]).weights
    if flip is not None:
        weights = _flipped(weights, flip)
    return _mismatches(right, spec.digests(weights))


def _flipped(weights: spec.Floats, flip: Flip) -> spec.Floats:
    bits = weights.copy().view(np.uint32)
    bits[flip.model % len(bits), -1] ^= np.uint32(1 << flip.bit % 32)
    return bits.view(np.float32)


def _mismatches(right: Sequence[golden.GoldenAnswer], digests: Sequence[str]) -> list[Mismatch]:
    pairs = enumerate(zip(right, digests, strict=True))
    return [
        Mismatch(model, answer.seed, answer.sha256, digest)
        for model, (answer, digest) in pairs
        if digest != answer.sha256
    ]
