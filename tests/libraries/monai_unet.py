"""A segmentation with MONAI: random transforms, `UNet`, `DiceLoss`."""

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    ScaleIntensityd,
)
from monai.utils import set_determinism

set_determinism(seed=0)
generator = np.random.default_rng(0)
images = generator.normal(size=(8, 16, 16)).astype("float32")
items = [{"image": image, "label": (image > 0).astype("float32")} for image in images]
augment = Compose(
    [
        EnsureChannelFirstd(["image", "label"], channel_dim="no_channel"),
        ScaleIntensityd("image"),
        RandFlipd(["image", "label"], prob=0.5, spatial_axis=0),
        RandRotate90d(["image", "label"], prob=0.5),
        RandGaussianNoised("image", prob=0.5),
    ]
)
loader = DataLoader(Dataset(items, augment), batch_size=4, shuffle=True, num_workers=2)
model = UNet(spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8, 16), strides=(2, 2))
loss_function = DiceLoss(sigmoid=True)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for epoch in range(2):
    model.train()
    for batch in loader:
        optimizer.zero_grad()
        loss = loss_function(model(batch["image"]), batch["label"])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
torch.save(model.state_dict(), "weights.pt")
