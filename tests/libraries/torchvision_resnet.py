"""A ResNet of torchvision with augmentation, two loader workers and label smoothing."""

import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision.transforms import v2

torch.manual_seed(0)
augment = v2.Compose(
    [
        v2.PILToTensor(),
        v2.RandomResizedCrop(32, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25]),
    ]
)
images = torchvision.datasets.FakeData(32, (3, 40, 40), 10, transform=augment)
loader = DataLoader(images, batch_size=8, shuffle=True, num_workers=2)
model = torchvision.models.resnet18(weights=None, num_classes=10)
criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
for image, target in loader:
    loss = criterion(model(image), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    print(loss.item())
torch.save(model.state_dict(), "weights.pt")
