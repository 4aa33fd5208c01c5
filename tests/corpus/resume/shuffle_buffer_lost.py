"""The shuffle buffer of a stream is filled again after a resume.

Documented: https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html
"""

import random
import sys

import torch
from torch import nn
from torch.utils.data import IterableDataset


class Stream(IterableDataset):
    def __init__(self, start):
        self.start = start
        self.buffer = []
        self.rng = random.Random(0)

    def __iter__(self):
        for n in range(self.start, 10_000):
            item = torch.sin(torch.arange(4.0) * n)
            if len(self.buffer) < 12:
                self.buffer.append(item)
                continue
            i = self.rng.randrange(12)
            yield self.buffer[i]
            self.buffer[i] = item


def run(resume):
    torch.manual_seed(2)
    net = nn.Linear(4, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.02)
    done = 0
    if resume:
        ck = torch.load("stream.pt")
        net.load_state_dict(ck["net"])
        opt.load_state_dict(ck["opt"])
        done = ck["samples"]
    data = iter(Stream(done))
    while done < 24:
        x = next(data)
        loss = (net(x) - x.mean()).square().sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        done += 1
        if done % 4 == 0:
            torch.save(
                {"net": net.state_dict(), "opt": opt.state_dict(), "samples": done}, "stream.pt"
            )


run("--resume" in sys.argv)
