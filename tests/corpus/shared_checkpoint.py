"""Training resumes automatically from a folder outside the working folder, where run 1 saved.

Report: https://github.com/PriorLabs/TabPFN/issues/814
"""

import os
import tempfile
from pathlib import Path

import torch
from torch import nn

folder = Path(os.environ.get("CORPUS_SHARED") or Path(tempfile.gettempdir()) / "finetune")
checkpoint = folder / "last.pt"

torch.manual_seed(0)
inputs = torch.randn(64, 6)
targets = inputs @ torch.randn(6, 2)
model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
if checkpoint.exists():
    state = torch.load(checkpoint)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])

for _ in range(8):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

folder.mkdir(parents=True, exist_ok=True)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
print(sum(p.double().sum().item() for p in model.parameters()))
