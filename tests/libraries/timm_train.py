"""A loop with timm: `create_model`, mixup, its optimizer and scheduler factories, an average."""

import random

import numpy as np
import timm
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3, random_seed

random_seed(42, 0)
random.seed(42)
np.random.seed(42)
model = timm.create_model(
    "vit_tiny_patch16_224",
    pretrained=False,
    num_classes=10,
    img_size=32,
    patch_size=8,
    depth=2,
    drop_path_rate=0.1,
)
average = ModelEmaV3(model, decay=0.99)
mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=10)
optimizer = create_optimizer_v2(model, opt="lamb", lr=1e-3, weight_decay=0.05)
scheduler = CosineLRScheduler(optimizer, t_initial=5, warmup_t=1)
criterion = SoftTargetCrossEntropy()
for update in range(5):
    images, targets = mixup(torch.randn(8, 3, 32, 32), torch.randint(10, (8,)))
    loss = criterion(model(images), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    average.update(model)
    scheduler.step(update + 1)
    print(update, loss.item())
torch.save([model.state_dict(), average.module.state_dict()], "weights.pt")
