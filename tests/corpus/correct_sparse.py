"""Correct: an embedding with sparse gradients and SparseAdam together with a dense optimizer.

See https://docs.pytorch.org/docs/stable/generated/torch.optim.SparseAdam.html
"""

import torch
from torch import nn

torch.manual_seed(0)
bags = torch.randint(0, 500, (32, 5))
targets = torch.randint(0, 2, (32,))
embedding = nn.EmbeddingBag(500, 8, sparse=True)
head = nn.Linear(8, 2)
sparse_optimizer = torch.optim.SparseAdam(embedding.parameters(), lr=0.01)
dense_optimizer = torch.optim.Adam(head.parameters(), lr=0.01)

for _ in range(5):
    sparse_optimizer.zero_grad()
    dense_optimizer.zero_grad()
    loss = nn.functional.cross_entropy(head(embedding(bags)), targets)
    loss.backward()
    sparse_optimizer.step()
    dense_optimizer.step()

print(sum(p.double().sum().item() for p in [*embedding.parameters(), *head.parameters()]))
