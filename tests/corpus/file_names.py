"""Shards are written to files with temporary names, and read in the order of these names.

Documented: https://docs.python.org/3/library/tempfile.html
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn


def write_shards(root, data):
    for part in np.array_split(data, 8):
        with tempfile.NamedTemporaryFile(dir=root, suffix=".npy", delete=False) as f:
            np.save(f, part)


def load_shards(root):
    return np.concatenate([np.load(p) for p in sorted(Path(root).glob("*.npy"))])


torch.manual_seed(7)
rng = np.random.default_rng(7)
root = tempfile.mkdtemp()
write_shards(root, rng.normal(size=(80, 6)).astype("float32"))
features = torch.from_numpy(load_shards(root))
labels = features.sum(1, keepdim=True)

model = nn.Linear(6, 1)
optim = torch.optim.SGD(model.parameters(), lr=0.01)
for start in range(0, 80, 20):
    x, y = features[start : start + 20], labels[start : start + 20]
    loss = (model(x) - y).square().mean()
    optim.zero_grad()
    loss.backward()
    optim.step()
