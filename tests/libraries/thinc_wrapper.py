"""Thinc, the library below spaCy: a model of PyTorch in `PyTorchWrapper`, with Thinc's Adam."""

import numpy as np
import torch
from thinc.api import Adam, PyTorchWrapper, Softmax, chain, fix_random_seed
from torch import nn

fix_random_seed(0)
inner = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2))
model = chain(PyTorchWrapper(inner), Softmax(nO=3, nI=16))
optimizer = Adam(0.001)
X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = np.eye(3, dtype="float32")[np.arange(64) % 3]
model.initialize(X=X[:4], Y=Y[:4])
for x, y in model.ops.multibatch(16, X, Y, shuffle=True):
    guesses, backprop = model.begin_update(x)
    backprop(guesses - y)
    model.finish_update(optimizer)
torch.save(inner.state_dict(), "weights.pt")
