"""The yardstick: a frozen training whose epoch is timed beside the others, to cancel the machine.

Frozen means frozen: a change here that moves its time makes every stored relative figure wrong.
Such a change needs a new `VERSION`, and figures are compared within one version only. It uses
nothing of the other modules, so that no change of theirs can reach it.
"""

import time
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

VERSION: Final = 1
POINTS: Final = 2_500
BATCH_SIZE: Final = 128
SEED: Final = 20_240_229


class Yardstick:
    """An XOR training on one device that indexes tensors directly, without a `DataLoader`.

    Each `epoch()` starts anew from the same weights and order, so that every one is the same work.
    """

    def __init__(
        self, device: torch.device, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._device = device
        draws = torch.Generator().manual_seed(SEED)
        bits = torch.randint(0, 2, (POINTS, 2), dtype=torch.float32, generator=draws)
        self._labels = (bits.sum(dim=1) == 1).to(torch.long)
        self._points = bits + 0.1 * torch.randn((POINTS, 2), generator=draws)
        self._order = torch.randperm(POINTS, generator=draws)
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.rand(weight.shape, generator=draws) - 0.5)
        self._start = [w.detach().clone().to(device) for w in model.parameters()]
        self._model = model.to(device)
        self._loss = nn.BCEWithLogitsLoss()
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.1)

    def epoch(self) -> float:
        """Seconds of one epoch, the device idle before and after."""
        with torch.no_grad():
            for weight, start in zip(self._model.parameters(), self._start, strict=True):
                weight.copy_(start)
        self._wait()
        begin = self._clock()
        for at in range(0, POINTS - BATCH_SIZE + 1, BATCH_SIZE):
            self._step(self._order[at : at + BATCH_SIZE])
        self._wait()
        return self._clock() - begin

    def _step(self, index: Tensor) -> None:
        points = self._points[index].to(self._device)
        labels = self._labels[index].to(self._device)
        loss = self._loss(self._model(points).squeeze(1), labels.float())
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def weights(self) -> list[Tensor]:
        """The weights as they are, on the CPU: after an epoch, always the same."""
        return [weight.detach().cpu().clone() for weight in self._model.parameters()]
