"""The tutorial of tensor parallel: a column-wise and a row-wise layer, with torchrun."""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)


class ToyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net1, self.relu, self.net2 = nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net2(self.relu(self.net1(x)))


mesh = init_device_mesh("cpu", (2,))
torch.manual_seed(0)
plan = {"net1": ColwiseParallel(), "net2": RowwiseParallel()}
model = parallelize_module(ToyModel(), mesh, plan)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.25, foreach=True)
for i in range(6):
    torch.manual_seed(i)
    output = model(torch.rand(20, 10))
    output.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
whole = {name: tensor.full_tensor() for name, tensor in model.state_dict().items()}
if dist.get_rank() == 0:
    torch.save(whole, "weights.pt")
dist.destroy_process_group()
