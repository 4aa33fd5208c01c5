"""The model is created before the seed is set.

Report: https://github.com/ThilinaRajapakse/simpletransformers/issues/1478
"""

import torch
from torch import nn


class Classifier:
    """A model with a scikit-learn interface."""

    def __init__(self, width: int) -> None:
        self.model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def fit(self, x: torch.Tensor, y: torch.Tensor, seed: int) -> None:
        """Train from the seed."""
        torch.manual_seed(seed)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        for _ in range(3):
            for batch in torch.randperm(len(x)).split(16):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.model(x[batch]), y[batch])
                loss.backward()
                optimizer.step()


inputs = torch.linspace(0, 1, 160).reshape(40, 4)
classifier = Classifier(width=16)
classifier.fit(inputs, torch.arange(40) % 3, seed=42)
print(sum(p.double().sum().item() for p in classifier.model.parameters()))
