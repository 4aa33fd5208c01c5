"""Features are collected in the order in which their jobs are completed.

Documented: https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.as_completed
"""

import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch
from torch import nn


def featurize(i):
    time.sleep(0.001 * ((i * 37) % 5))
    g = torch.Generator().manual_seed(i)
    return torch.randn(10, generator=g)


class Data:
    def __init__(self, count):
        rows = []
        with ThreadPoolExecutor(max_workers=8) as pool:
            jobs = [pool.submit(featurize, i) for i in range(count)]
            for job in as_completed(jobs):
                rows += [job.result()]
        self.rows = torch.stack(rows)

    def batches(self, size):
        return self.rows.split(size)


torch.manual_seed(1)
data = Data(64)
auto = nn.Sequential(nn.Linear(10, 3), nn.Tanh(), nn.Linear(3, 10))
opt = torch.optim.RMSprop(auto.parameters(), lr=1e-2)
for batch in data.batches(16):
    loss = nn.functional.l1_loss(auto(batch), batch)
    loss.backward()
    opt.step()
    opt.zero_grad()
