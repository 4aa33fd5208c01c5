"""The mean and the variance that normalize the inputs begin again.

Documented: https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html
"""

import sys

import numpy as np
import torch
from torch import nn


class RunningStats:
    def __init__(self, shape):
        self.mean = np.zeros(shape)
        self.var = np.ones(shape)
        self.count = 1e-4

    def update(self, x):
        delta = x.mean(0) - self.mean
        total = self.count + len(x)
        self.mean = self.mean + delta * len(x) / total
        self.var = (self.var * self.count + x.var(0) * len(x)) / total
        self.count = total

    def __call__(self, x):
        self.update(x)
        return (x - self.mean) / np.sqrt(self.var + 1e-8)


def main():
    torch.manual_seed(4)
    data = np.random.default_rng(4).normal(3, 2, size=(200, 5))
    policy = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    optim = torch.optim.Adam(policy.parameters(), lr=3e-3)
    stats = RunningStats(5)
    start = 0
    if "--resume" in sys.argv:
        saved = torch.load("policy.pt")
        policy.load_state_dict(saved["policy"])
        optim.load_state_dict(saved["optim"])
        start = saved["update"]
    for update in range(start, 16):
        obs = stats(data[update * 10 : update * 10 + 10])
        obs = torch.as_tensor(obs, dtype=torch.float32)
        loss = (policy(obs) - obs.mean(1, keepdim=True)).square().mean()
        optim.zero_grad()
        loss.backward()
        optim.step()
        if (update + 1) % 4 == 0:
            torch.save(
                {"policy": policy.state_dict(), "optim": optim.state_dict(), "update": update + 1},
                "policy.pt",
            )


main()
