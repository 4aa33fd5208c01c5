"""Correct: keyword inputs, and a batch that is a dataclass with a dictionary in it."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Batch:
    """Tokens of two kinds, and options."""

    tokens: dict[str, torch.Tensor]
    scale: float
    labels: torch.Tensor | None = None


class Output(dict):
    """The result of the model."""


class Model(nn.Module):
    """A classifier that computes its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.tags = nn.Embedding(5, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, batch: Batch, *, mask: torch.Tensor | None = None) -> Output:
        """Logits and loss."""
        hidden = self.words(batch.tokens["words"]) + self.tags(batch.tokens["tags"])
        if mask is not None:
            hidden = hidden * mask.unsqueeze(-1)
        logits = self.head(hidden.mean(dim=1)) * batch.scale
        return Output(logits=logits, loss=nn.functional.cross_entropy(logits, batch.labels))


torch.manual_seed(0)
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for _ in range(6):
    tokens = {"words": torch.randint(0, 30, (8, 6)), "tags": torch.randint(0, 5, (8, 6))}
    batch = Batch(tokens, scale=1.5, labels=torch.randint(0, 3, (8,)))
    optimizer.zero_grad()
    output = model(batch=batch, mask=(torch.rand(8, 6) < 0.9).float())
    output["loss"].backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
