"""The tutorial of DistributedDataParallel, with torchrun and a `DistributedSampler`."""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

dist.init_process_group("gloo")
rank = int(os.environ["LOCAL_RANK"])
torch.manual_seed(0)
data = TensorDataset(torch.randn(64, 20), torch.randn(64, 1))
sampler = DistributedSampler(data)
loader = DataLoader(data, batch_size=8, sampler=sampler)
net = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
model = DistributedDataParallel(net)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
for epoch in range(2):
    sampler.set_epoch(epoch)
    for source, targets in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(source), targets)
        loss.backward()
        optimizer.step()
    print(f"[{rank}] epoch {epoch} loss {loss.item():.4f}")
torch.save(model.module.state_dict(), f"weights-{rank}.pt")
dist.destroy_process_group()
