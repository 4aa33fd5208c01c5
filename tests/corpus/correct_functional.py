"""Correct: no modules, only tensors that require gradients."""

import torch

torch.manual_seed(0)
inputs = torch.randn(64, 3)
targets = inputs.sin().sum(dim=1)
w1 = (torch.randn(3, 16) / 3).requires_grad_()
b1 = torch.zeros(16, requires_grad=True)
w2 = (torch.randn(16) / 4).requires_grad_()
optimizer = torch.optim.SGD([w1, b1, w2], lr=0.1)

for _ in range(8):
    batch = torch.randint(0, 64, (16,))
    optimizer.zero_grad()
    prediction = torch.tanh(inputs[batch] @ w1 + b1) @ w2
    loss = (prediction - targets[batch]).square().mean()
    loss.backward()
    optimizer.step()

print(sum(t.double().sum().item() for t in (w1, b1, w2)))
