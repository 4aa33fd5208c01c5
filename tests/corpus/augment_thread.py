"""A thread augments with the generator of the main thread, so the order of use is random.

Report: https://github.com/LaurentMazare/tch-rs/issues/263
"""

import queue
import threading
import time

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
data = torch.randn(12, 64, 100)
ready: queue.Queue = queue.Queue(maxsize=2)


def augment() -> None:
    """Read each sample, which takes up to 0.1 ms, and add noise, ahead of the training."""
    for batch in data:
        noisy = []
        for sample in batch:
            time.sleep(time.perf_counter_ns() % 100 * 1e-6)
            noisy.append(sample + 0.1 * torch.randn_like(sample))
        ready.put((torch.stack(noisy), batch.mean(dim=1, keepdim=True)))


def cut(batch: torch.Tensor) -> torch.Tensor:
    """Hide a random part of each sample."""
    for sample in batch:
        start = torch.randint(0, 90, ()).item()
        sample[start : start + 10] = 0
    return batch


model = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

threading.Thread(target=augment, daemon=True).start()
for _ in range(len(data)):
    inputs, targets = ready.get()
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(cut(inputs)), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
