"""The quickstart of Lightning Fabric: a loop of one's own, with `setup` and `backward`."""

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

L.seed_everything(1)
fabric = L.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
fabric.launch()
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
model, optimizer = fabric.setup(model, optimizer)
data = TensorDataset(torch.randn(48, 8), torch.randn(48, 1))
loader = fabric.setup_dataloaders(DataLoader(data, batch_size=8, shuffle=True))
model.train()
for inputs, targets in loader:
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs).float(), targets)
    fabric.backward(loss)
    fabric.clip_gradients(model, optimizer, max_norm=1.0)
    optimizer.step()
fabric.save("state.ckpt", {"model": model, "optimizer": optimizer})
torch.save(model.module.state_dict(), "weights.pt")
