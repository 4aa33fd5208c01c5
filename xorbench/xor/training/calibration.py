"""The calibration workloads: frozen trainings timed next to the others, to normalize their times.

A change of their time would invalidate every stored normalized time. Such a change, also of code
that runs before them, needs a new `VERSION`, and figures are compared within one version only. They
import no other module, so that changes elsewhere cannot affect them.

There are two workloads, since load slows two kinds of work differently: `tensor` indexes its
tensors directly, `loader` fetches each point through a `DataLoader`, which is mostly Python.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

VERSION: Final = 3
POINTS: Final = {"tensor": 2_500, "loader": 1_280}
BATCH_SIZE: Final = 128
SEED: Final = 20_240_229
KINDS: Final = ("tensor", "loader")

CalibrationBatch = tuple[Tensor, Tensor]


class CalibrationWorkload:
    """An XOR training on one device, of one of the `KINDS`.

    Each `epoch()` starts from the same weights and order, so that all epochs do the same work.
    """

    def __init__(
        self,
        device: torch.device,
        kind: str = "tensor",
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._device = device
        points = POINTS[kind]
        draws = torch.Generator().manual_seed(SEED)
        bits = torch.randint(0, 2, (points, 2), dtype=torch.float32, generator=draws)
        labels = (bits.sum(dim=1) == 1).to(torch.long)
        data = _Points(bits + 0.1 * torch.randn((points, 2), generator=draws), labels)
        order = torch.randperm(points, generator=draws)
        self._batches = (Indexed(data, order) if kind == "tensor" else LoadedBatches(data)).batches
        model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.rand(weight.shape, generator=draws) - 0.5)
        self._start = [w.detach().clone().to(device) for w in model.parameters()]
        self._model = model.to(device)
        self._loss = nn.BCEWithLogitsLoss()
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.1)

    def epoch(self) -> float:
        """Train one epoch and return its seconds; the device is idle before and after."""
        with torch.no_grad():
            for weight, start in zip(self._model.parameters(), self._start, strict=True):
                weight.copy_(start)
        batches = self._batches()
        self._wait()
        begin = self._clock()
        self._train(batches)
        self._wait()
        return self._clock() - begin

    def _train(self, batches: Iterable[CalibrationBatch]) -> None:
        for points, labels in batches:
            points, labels = points.to(self._device), labels.to(self._device)  # noqa: PLW2901
            loss = self._loss(self._model(points).squeeze(1), labels.float())
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def weights(self) -> list[Tensor]:
        """The current weights on the CPU, which are equal after every epoch."""
        return [weight.detach().cpu().clone() for weight in self._model.parameters()]


class _Points(Dataset[CalibrationBatch]):
    """Points and labels, fetched individually."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        self.points, self.labels = points, labels

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> CalibrationBatch:
        return self.points[index], self.labels[index]


class Indexed:
    """Batches by direct indexing in a fixed order."""

    def __init__(self, data: _Points, order: Tensor) -> None:
        self._data, self._order = data, order

    def batches(self) -> Iterator[CalibrationBatch]:
        """The batches of one epoch, without the short last one."""
        for start in range(0, len(self._order) - BATCH_SIZE + 1, BATCH_SIZE):
            index = self._order[start : start + BATCH_SIZE]
            yield self._data.points[index], self._data.labels[index]


class LoadedBatches:
    """Batches from a `DataLoader` that fetches individual points, with a reseeded generator."""

    def __init__(self, data: _Points) -> None:
        self._draws = torch.Generator()
        self._loader = DataLoader(
            data, batch_size=BATCH_SIZE, shuffle=True, drop_last=True, generator=self._draws
        )

    def batches(self) -> Iterable[CalibrationBatch]:
        """The batches of one epoch."""
        self._draws.manual_seed(SEED)
        return self._loader
