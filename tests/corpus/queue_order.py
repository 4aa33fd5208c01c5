"""Four threads put batches into a queue, which gives them in their order of completion.

Documented: https://docs.python.org/3/library/queue.html
"""

import queue
import threading
import time

import torch
from torch import nn

out = queue.Queue()


def producer(which):
    g = torch.Generator().manual_seed(which)
    for _ in range(6):
        x = torch.randn(8, 4, generator=g)
        time.sleep(0.0005 * (1 + which % 3))
        out.put(x)


def stream(workers):
    threads = [threading.Thread(target=producer, args=(i,), daemon=True) for i in range(workers)]
    for t in threads:
        t.start()
    for _ in range(6 * workers):
        yield out.get()


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for x in stream(4):
    loss = (model(x) - x.prod(1, keepdim=True)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
