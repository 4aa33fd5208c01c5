"""Augmentation with Kornia within the training step, as its tutorial writes it."""

import kornia.augmentation as K
import torch
from torch import nn

torch.manual_seed(0)
augment = K.AugmentationSequential(
    K.RandomHorizontalFlip(p=0.5),
    K.RandomAffine(degrees=15.0, p=0.7),
    K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=0.8),
    data_keys=["input"],
)
model = nn.Sequential(
    nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
images, labels = torch.rand(32, 3, 16, 16), torch.randint(4, (32,))
for i in range(0, 32, 8):
    with torch.no_grad():
        batch = augment(images[i : i + 8])
    loss = nn.functional.cross_entropy(model(batch), labels[i : i + 8])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
torch.save(model.state_dict(), "weights.pt")
