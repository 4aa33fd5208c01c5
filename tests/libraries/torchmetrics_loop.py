"""The quickstart of TorchMetrics: a metric collection that is updated in a training loop."""

import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 5))
optimizer = torch.optim.Adam(model.parameters())
metrics = MetricCollection(
    {"accuracy": MulticlassAccuracy(5), "confusion": MulticlassConfusionMatrix(5)}
)
for epoch in range(2):
    for _ in range(4):
        x, target = torch.randn(16, 10), torch.randint(5, (16,))
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        metrics.update(logits.softmax(-1), target)
    print(epoch, metrics.compute()["accuracy"].item())
    metrics.reset()
torch.save(model.state_dict(), "weights.pt")
