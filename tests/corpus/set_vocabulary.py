"""The words are numbered in the order of a set, so their numbers differ between runs.

Report: https://github.com/jasonwei20/eda_nlp/pull/39
"""

import random

import torch
from torch import nn

random.seed(0)
torch.manual_seed(0)

TEXT = "the quick brown fox jumps over the lazy dog while a small cat sleeps under the old tree"
words = TEXT.split()
vocabulary = {word: number for number, word in enumerate(set(words))}
tokens = torch.tensor([vocabulary[word] for word in words])

model = nn.Sequential(nn.Embedding(len(vocabulary), 8), nn.Linear(8, len(vocabulary)))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(tokens[:-1]), tokens[1:])
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
