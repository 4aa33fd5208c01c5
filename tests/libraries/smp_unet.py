"""Segmentation Models PyTorch: `Unet` with an encoder without weights, `DiceLoss`."""

import segmentation_models_pytorch as smp
import torch

torch.manual_seed(0)
model = smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=1)
loss_function = smp.losses.DiceLoss(mode="binary")
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
model.train()
for _ in range(3):
    images = torch.randn(2, 3, 32, 32)
    masks = (images.mean(1, keepdim=True) > 0).float()
    loss = loss_function(model(images), masks)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
torch.save(model.state_dict(), "weights.pt")
