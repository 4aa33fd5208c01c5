"""Four threads put finished batches into a queue, so their order is random.

Report: https://github.com/NVIDIA/DIGITS/issues/883
"""

import queue
import threading

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.randn(12, 16, 64)
todo: queue.Queue = queue.Queue()
done: queue.Queue = queue.Queue()


def load() -> None:
    """Decode batches in sequence."""
    while True:
        index = todo.get()
        batch = images[index]
        for _ in range(60):
            batch = torch.fft.ifft(torch.fft.fft(batch)).real
        done.put((batch, batch.mean(dim=1, keepdim=True)))


model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for index in range(len(images)):
    todo.put(index)
for _ in range(4):
    threading.Thread(target=load, daemon=True).start()
for _ in range(len(images)):
    inputs, targets = done.get()
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
