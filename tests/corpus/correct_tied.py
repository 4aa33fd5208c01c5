"""Correct: the output layer shares the embedding's weights, and a layer is frozen."""

import torch
from torch import nn

torch.manual_seed(0)
tokens = torch.randint(0, 20, (16, 9))


class Language(nn.Module):
    """A recurrent language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.frozen = nn.Linear(16, 16)
        self.frozen.requires_grad_(False)
        self.memory = nn.GRU(16, 16, batch_first=True)
        self.output = nn.Linear(16, 20)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of each next token."""
        hidden, _ = self.memory(self.frozen(self.embedding(tokens)))
        return self.output(hidden)


model = Language()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(6):
    optimizer.zero_grad()
    logits = model(tokens[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
