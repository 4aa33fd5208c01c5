"""The `Trainer` of minGPT: callbacks, a sampler with replacement, a sorting task."""

import random
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler


class SortDataset(Dataset):
    def __len__(self) -> int:
        return 1_000

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = torch.randint(3, (6,))
        sequence = torch.cat([numbers, numbers.sort().values])
        x, y = sequence[:-1].clone(), sequence[1:].clone()
        y[:5] = -1
        return x, y


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(3, 16)
        self.wpe = nn.Parameter(torch.zeros(1, 11, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.blocks, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        logits = self.head(self.blocks(self.wte(x) + self.wpe, mask=mask, is_causal=True))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-1)
        return logits, loss


class Trainer:
    def __init__(self, model: GPT, data: Dataset, max_iters: int) -> None:
        self.model, self.data, self.max_iters = model, data, max_iters
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
        self.callbacks: dict[str, list[Callable[[Trainer], None]]] = defaultdict(list)

    def run(self) -> None:
        sampler = RandomSampler(self.data, replacement=True, num_samples=int(1e4))
        batches = iter(DataLoader(self.data, sampler=sampler, batch_size=8))
        for iteration in range(self.max_iters):
            self.iteration = iteration
            _, self.loss = self.model(*next(batches))
            self.model.zero_grad(set_to_none=True)
            self.loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            for callback in self.callbacks["on_batch_end"]:
                callback(self)


random.seed(3407)
np.random.seed(3407)
torch.manual_seed(3407)
trainer = Trainer(GPT(), SortDataset(), max_iters=6)
trainer.callbacks["on_batch_end"].append(lambda t: print(t.iteration, t.loss.item()))
trainer.run()
torch.save(trainer.model.state_dict(), "weights.pt")
