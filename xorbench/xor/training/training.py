"""One training: initialized, stepped epoch by epoch, and finished."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import EPOCH_WEIGHT_BYTES, Recipe
from xorbench.xor.training import engines, tensor_digest
from xorbench.xor.training.engines import TrainingSpec
from xorbench.xor.training.engines.spec import on_device
from xorbench.xor.training.problem import Score, SimpleClassifier, loss_of, make_inputs, score
from xorbench.xor.training.seeding import GlobalState, generator

INLINE_WEIGHT_BYTES = 64 * 1024
OPTIMIZERS: Final[dict[str, dict[str, bool]]] = {
    "default": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
DTYPES: Final = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,  # autocast is over float32 weights
}


@dataclass(frozen=True, slots=True)
class Epoch:
    """The result of one epoch: seconds, last step's loss, digest of the weights after it.

    `weights` are the concatenated weights in hex; None for a large network.
    """

    epoch_s: float
    loss: float
    digest: str
    weights: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """The weights and scores of a finished training, before and after saving and loading."""

    weights_sha256: str
    weights: dict[str, dict[str, object]] | None
    train: Score
    test: Score
    reloaded_sha256: str
    reloaded_test: Score
    accelerator_peak_bytes: int | None
    accelerator_grown_bytes: int | None  # increase from the first to the last epoch


class Training:
    """The training of a case, with its own data, model, generators and global random state.

    `alter` can change the training before it starts, to inject faults. `startup_s` are the seconds
    of the engine's set-up, such as capturing or compiling. `clock` is used for all times.
    """

    def __init__(
        self,
        case: Case,
        recipe: Recipe,
        *,
        alter: Callable[["Training"], None] = lambda _training: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.case, self.recipe = case, recipe
        self.device = torch.device(case.device)
        self.epoch = 0
        self.clock = clock
        self._memory = Memory(self.device)
        self.inputs = make_inputs(recipe, case.seed).to(DTYPES[case.dtype])
        self.model = self.inputs.model.to(self.device)
        rate = recipe.learning_rate(case.batch_size)
        self.spec = TrainingSpec(
            case=case,
            device=self.device,
            data=self.inputs.train,
            model=self.model,
            loss=loss_of,
            optimizer=torch.optim.SGD(
                self.model.parameters(), lr=rate, **OPTIMIZERS[case.optimizer]
            ),
            shuffle=generator(case.seed, "shuffle"),
        )
        self.saved = save_state
        alter(self)  # before the engine is initialized
        if case.data_on_device:
            self.spec.data = on_device(self.spec.data, self.device)
        self._globals = GlobalState(self.device, case.seed, tf32=case.tf32)
        with self._globals.swapped_in():
            synchronize(self.device)  # copies of data and model may still be running
            start = clock()
            epoch = engines.opened(case.engine, self.spec)
            synchronize(self.device)
            self.startup_s = clock() - start
        self.run_epoch = self.spec.around(epoch)
        self._memory.started()

    def inputs_sha256(self) -> str:
        """The digest over train points, test points and the current weights."""
        return tensor_digest.sha256(self.inputs.entries())

    def step(self) -> Epoch:
        """Train and time one epoch; the device is idle before and after."""
        self._memory.before_step()
        with self._globals.swapped_in():
            self.model.train()
            synchronize(self.device)
            start = self.clock()
            loss = self.run_epoch()
            synchronize(self.device)  # kernels are queued; without this only launches are timed
            seconds = self.clock() - start
        value = float(loss)
        del loss  # so that only the training's memory remains on the device
        self._memory.after_step()
        self.epoch += 1
        state = self.model.state_dict()
        return Epoch(seconds, value, tensor_digest.state_sha256(state), epoch_weights(state))

    def state(self) -> dict[str, torch.Tensor]:
        """The weights by name on the CPU."""
        return {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}

    def finish(self) -> Result:
        """Score the model, then save, load and score it again."""
        state = self.state()
        loaded = load_model(self.saved(state), self.recipe.hidden).to(self.device)
        return Result(
            weights_sha256=tensor_digest.state_sha256(state),
            weights=inline_weights(state),
            train=self._score(self.model, "train"),
            test=self._score(self.model, "test"),
            reloaded_sha256=tensor_digest.state_sha256(loaded.state_dict()),
            reloaded_test=self._score(loaded, "test"),
            accelerator_peak_bytes=self._memory.peak_bytes,
            accelerator_grown_bytes=self._memory.grown_bytes,
        )

    def _score(self, model: SimpleClassifier, part: str) -> Score:
        data = getattr(self.inputs, part)
        with self._globals.swapped_in():
            return score(model, data, self.case.batch_size, self.device)


class Memory:
    """Accelerator memory of one of several simultaneous trainings, in bytes.

    `peak_bytes` is its maximum, including set-up. `grown_bytes` is the memory that epochs after the
    first did not release, which is 0 for a correct training. Both are None if the device does not
    report memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        module = torch.get_device_module(device) if device.type != "cpu" else None
        self._module = module if hasattr(module, "max_memory_allocated") else None
        self._epochs = 0
        self.peak_bytes = None if self._module is None else 0
        self.grown_bytes = self.peak_bytes
        self._held = 0
        self.before_step()

    def _allocated(self) -> int:
        return int(self._module.memory_allocated(self._device)) if self._module else 0

    def started(self) -> None:
        """Count the memory allocated since the start as the training's own."""
        self._keep_peak()
        self._held = self._allocated() - self._before

    def before_step(self) -> None:
        """Start measuring a step; memory of different trainings is excluded."""
        if self._module:
            self._module.reset_peak_memory_stats(self._device)
        self._before = self._allocated()

    def after_step(self) -> None:
        """Update the peak and the growth after a step."""
        self._keep_peak()
        grown = self._allocated() - self._before
        self._held += grown
        if (
            self.grown_bytes is not None and self._epochs
        ):  # the first epoch allocates gradients and buffers
            self.grown_bytes += grown
        self._epochs += 1

    def _keep_peak(self) -> None:
        if self._module and self.peak_bytes is not None:
            added = int(self._module.max_memory_allocated(self._device)) - self._before
            self.peak_bytes = max(self.peak_bytes, self._held + added)


def synchronize(device: torch.device) -> None:
    """Wait until the device is idle; the CPU always is."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def save_state(state: dict[str, torch.Tensor]) -> bytes:
    """A `state_dict` as the bytes of a file that `torch.load(weights_only=True)` reads."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def load_model(saved: bytes, hidden: int) -> SimpleClassifier:
    """A network with the saved weights, created without advancing a generator."""
    with torch.device("meta"):
        model = SimpleClassifier(2, hidden, 1)
    state = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
    model.load_state_dict(state, assign=True)
    return model


def epoch_weights(state: dict[str, torch.Tensor]) -> str | None:
    """The little-endian weights in hex, in the order of the `state_dict`; None if large."""
    if sum(t.numel() * t.element_size() for t in state.values()) > EPOCH_WEIGHT_BYTES:
        return None
    return b"".join(map(tensor_digest.raw_bytes, state.values())).hex()


def inline_weights(state: dict[str, torch.Tensor]) -> dict[str, dict[str, object]] | None:
    """The weights as little-endian hex, from which the digest can be recomputed; None if large."""
    if sum(t.numel() * t.element_size() for t in state.values()) > INLINE_WEIGHT_BYTES:
        return None
    return {name: tensor_digest.record(tensor) for name, tensor in state.items()}
