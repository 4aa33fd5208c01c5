"""Linear regression from scratch, as textbooks begin: a minibatch loop and an update by hand."""

import random

import torch

torch.manual_seed(0)
random.seed(0)
true_w, true_b = torch.tensor([2.0, -3.4]), 4.2
features = torch.randn(100, 2)
labels = features @ true_w + true_b + 0.01 * torch.randn(100)
w = torch.normal(0, 0.01, size=(2,), requires_grad=True)
b = torch.zeros(1, requires_grad=True)


def sgd(parameters: list[torch.Tensor], lr: float) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter -= lr * parameter.grad
            parameter.grad.zero_()


for epoch in range(2):
    order = list(range(100))
    random.shuffle(order)
    for start in range(0, 100, 20):
        rows = torch.tensor(order[start : start + 20])
        loss = ((features[rows] @ w + b - labels[rows]) ** 2 / 2).mean()
        loss.backward()
        sgd([w, b], lr=0.1)
    print(epoch, loss.item())
torch.save({"w": w.detach(), "b": b.detach()}, "weights.pt")
