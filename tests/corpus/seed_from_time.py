"""The seed is the time of day.

Report: https://github.com/ecmwf/WeatherGenerator/pull/2627
"""

import argparse
import time

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
args = parser.parse_args()
seed = args.seed if args.seed is not None else int(time.time() * 1000)
torch.manual_seed(seed)

inputs = torch.linspace(-1, 1, 32).reshape(-1, 1)
targets = torch.sin(3 * inputs)
model = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for _ in range(6):
    loss = nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

print("seed", seed, sum(p.double().sum().item() for p in model.parameters()))
