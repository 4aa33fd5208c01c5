"""The universal training of a case, with the methods of the PyTorch training."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from xorbench.machine.universal import golden, numpy_backend, spec
from xorbench.machine.universal.backends import BACKENDS
from xorbench.machine.universal.golden import Checked, GoldenAnswer
from xorbench.machine.universal.spec import UniversalPoints, UniversalRecipe
from xorbench.machine.universal.sweep_plan import universal
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training import tensor_digest
from xorbench.xor.training.engines import UnsupportedCase
from xorbench.xor.training.faults import flip_bit
from xorbench.xor.training.problem import Score
from xorbench.xor.training.training import (
    Epoch,
    Result,
    inline_weights,
    load_model,
    save_state,
    synchronize,
)


def unavailable_reason(device: str) -> str | None:
    """Why the universal engine cannot be used for the device here; None if it can."""
    return BACKENDS["numba" if device == "cpu" else "torch"].missing()


class UniversalTraining:
    """The universal training of a case: a compiled kernel on the CPU, torch on other devices.

    It has no `DataLoader`, no autograd and no loss, so pinning and copying have no effect.
    """

    def __init__(
        self,
        case: Case,
        recipe: Recipe,
        *,
        faults: Sequence[FaultSpec] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.case, self.clock = case, clock
        self._faults = list(faults)
        for fault in faults:
            if fault.name != "flip-weight":
                raise UnsupportedCase(
                    f"the universal engine does not support the fault {fault.name}"
                )
        rate = recipe.learning_rate(case.batch_size)
        fields = universal(recipe, case.batch_size, case.drop_last) | {"lr": rate}
        self.recipe = UniversalRecipe(**fields)
        self.epoch = 0
        self._device = torch.device(case.device)
        synchronize(self._device)
        start = clock()
        self._stepper = _stepper(self.recipe, case)
        synchronize(self._device)  # wait for the copy of its points
        self.startup_s = clock() - start

    def inputs_sha256(self) -> str:
        """Digest over train points, test points and initial weights."""
        entries: list[tuple[str, Any]] = []
        for name in ("train", "test"):
            points = self._points(name)
            entries += [(f"{name}.{field}", part) for field, part in points._asdict().items()]
        entries += list(spec.state(spec.initial_weights([self.case.seed])[0]).items())
        return tensor_digest.sha256((name, torch.from_numpy(part.copy())) for name, part in entries)

    def step(self) -> Epoch:
        """Train one epoch; its loss is NaN."""
        synchronize(self._device)
        start = self.clock()
        self._stepper.epoch()
        synchronize(self._device)
        seconds = self.clock() - start
        for fault in self._faults:
            if fault.number("epoch") == self.epoch:
                weights = torch.from_numpy(self._stepper.weights)
                flip_bit(weights, fault.number("element"), fault.number("bit"))
                self._stepper.weights = weights.numpy()
        self.epoch += 1
        return Epoch(seconds, float("nan"), tensor_digest.state_sha256(self.state()), None)

    def state(self) -> dict[str, torch.Tensor]:
        """The weights by name, on the CPU."""
        weights = spec.state(self._stepper.weights)
        return {name: torch.from_numpy(part) for name, part in weights.items()}

    def finish(self) -> Result:
        """Score the model, then save, load and score it again."""
        state = self.state()
        loaded = load_model(save_state(state), spec.HIDDEN).state_dict()
        return Result(
            weights_sha256=tensor_digest.state_sha256(state),
            weights=inline_weights(state),
            train=self._score(state, "train"),
            test=self._score(state, "test"),
            reloaded_sha256=tensor_digest.state_sha256(loaded),
            reloaded_test=self._score(loaded, "test"),
            accelerator_peak_bytes=None,
            accelerator_grown_bytes=None,
        )

    def checked(self) -> list[dict[str, str]]:
        """Digest and score, compared with the golden values or else with NumPy's."""
        known = golden.load().answer(self.recipe, self.case.seed)
        source = "golden" if known else "the NumPy oracle's"
        expected = known or _oracle(self.recipe, self.case.seed)
        state, total = self.state(), self.recipe.test_size
        correct = self._score(state, "test").correct
        comparisons = (
            Checked(f"digest, {source}", expected.sha256, tensor_digest.state_sha256(state)),
            Checked(f"score, {source}", f"{expected.correct}/{total}", f"{correct}/{total}"),
        )
        return [asdict(comparison) for comparison in comparisons]

    def _points(self, name: str) -> UniversalPoints:
        size = self.recipe.train_size if name == "train" else self.recipe.test_size
        return spec.points(name, self.case.seed, size, self.recipe.std)

    def _score(self, state: dict[str, torch.Tensor], name: str) -> Score:
        points = self._points(name)
        w = torch.cat([part.reshape(-1) for part in state.values()]).numpy()[:, None]
        logits = numpy_backend.logit(w, numpy_backend.hidden(w, points.x0, points.x1))
        answers = logits >= 0
        correct = int((answers == (points.label == 1)).sum())
        predictions = "".join("1" if answer else "0" for answer in answers)
        return Score(correct, len(answers), predictions, int((~np.isfinite(logits)).sum()))


def _stepper(recipe: UniversalRecipe, case: Case) -> Any:
    if case.device == "cpu":
        from xorbench.machine.universal import numba_single

        return numba_single.NumbaStepper(recipe, case.seed)
    from xorbench.machine.universal import torch_backend

    return torch_backend.TorchStepper(recipe, case.seed, case.device)


def _oracle(recipe: UniversalRecipe, seed: int) -> GoldenAnswer:
    trained = numpy_backend.train(recipe, [seed])
    return GoldenAnswer(seed, trained.digests()[0], int(trained.correct[0]))
