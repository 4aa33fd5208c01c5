"""The tutorial of FSDP2: `fully_shard` each layer, then the root, with torchrun."""

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

dist.init_process_group("gloo")
torch.manual_seed(0)
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
layer = {"d_model": 16, "nhead": 2, "dim_feedforward": 32, "batch_first": True}
model = torch.nn.Sequential(*[torch.nn.TransformerEncoderLayer(**layer) for _ in range(2)])
for block in model:
    fully_shard(block, mesh=mesh)
fully_shard(model, mesh=mesh)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
torch.manual_seed(dist.get_rank())
for _ in range(5):
    loss = model(torch.randn(2, 4, 16)).square().mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    optimizer.zero_grad()
whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
if dist.get_rank() == 0:
    torch.save(whole, "weights.pt")
dist.destroy_process_group()
