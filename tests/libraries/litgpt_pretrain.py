"""Pretraining with LitGPT: `GPT` from a configuration, chunked cross entropy, Fabric."""

import lightning as L
import torch
from litgpt import GPT, Config
from litgpt.utils import chunked_cross_entropy

L.seed_everything(0)
fabric = L.Fabric(accelerator="cpu", devices=1)
config = Config(
    block_size=16,
    vocab_size=64,
    padded_vocab_size=64,
    n_layer=2,
    n_head=2,
    n_embd=16,
    rotary_percentage=1.0,
    norm_class_name="RMSNorm",
    mlp_class_name="LLaMAMLP",
    intermediate_size=32,
)
model = fabric.setup(GPT(config))
optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=1e-3))
for _ in range(6):
    tokens = torch.randint(0, 64, (4, 17))
    logits = model(tokens[:, :-1])
    loss = chunked_cross_entropy(logits, tokens[:, 1:], chunk_size=0)
    fabric.backward(loss)
    fabric.clip_gradients(model, optimizer, max_norm=1.0)
    optimizer.step()
    optimizer.zero_grad()
    fabric.print(loss.item())
torch.save(model.module.state_dict(), "weights.pt")
