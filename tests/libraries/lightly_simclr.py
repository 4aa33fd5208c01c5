"""The example of Lightly: SimCLR with two views of each image and the NT-Xent loss."""

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData

torch.manual_seed(0)
backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
model = nn.Sequential(backbone, SimCLRProjectionHead(8, 16, 8))
data = FakeData(24, (3, 32, 32), transform=SimCLRTransform(input_size=16, gaussian_blur=0.0))
loader = DataLoader(data, batch_size=8, shuffle=True, drop_last=True)
criterion = NTXentLoss(temperature=0.5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
for (view0, view1), _ in loader:
    loss = criterion(model(view0), model(view1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
torch.save(model.state_dict(), "weights.pt")
