"""The loop of nanoGPT's `train.py`: memory-mapped tokens, accumulation, a cosine schedule."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

batch_size, block_size, n_embd, n_head, vocab = 4, 16, 32, 2, 48
max_iters, warmup_iters, learning_rate, accumulation = 6, 2, 1e-3, 2
torch.manual_seed(1337)
np.random.default_rng(0).integers(0, vocab, 2_000, dtype=np.uint16).tofile("train.bin")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(0.1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.c_attn(self.ln_1(x)).unflatten(-1, (3, n_head, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*heads, dropout_p=0.1, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).flatten(2))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, n_embd), nn.Embedding(block_size, n_embd)
        self.h, self.ln_f = nn.Sequential(Block(), Block()), nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        return F.cross_entropy(self.lm_head(self.ln_f(self.h(x))).flatten(0, 1), targets.flatten())


def get_batch() -> tuple[torch.Tensor, torch.Tensor]:
    data = np.memmap("train.bin", dtype=np.uint16, mode="r")
    starts = torch.randint(len(data) - block_size, (batch_size,)).tolist()
    rows = [torch.from_numpy(data[i : i + block_size + 1].astype(np.int64)) for i in starts]
    return torch.stack(rows)[:, :-1], torch.stack(rows)[:, 1:]


model = GPT()
decay = [p for p in model.parameters() if p.dim() >= 2]
rest = [p for p in model.parameters() if p.dim() < 2]
groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95))
for iteration in range(max_iters):
    ratio = iteration / max_iters
    lr = learning_rate * min((iteration + 1) / warmup_iters, 0.5 * (1 + math.cos(math.pi * ratio)))
    for group in optimizer.param_groups:
        group["lr"] = lr
    for _ in range(accumulation):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(*get_batch()) / accumulation
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if iteration % 3 == 0:
        model.eval()
        with torch.no_grad():
            print(iteration, lr, model(*get_batch()).item())
        model.train()
torch.save(model.state_dict(), "weights.pt")
