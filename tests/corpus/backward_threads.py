"""A custom backward pass adds the partial sums of threads in order of completion.

This simulates the atomic additions of a GPU: the same sum, in order of completion.

Report: https://github.com/rusty1s/pytorch_scatter/issues/226
"""

import threading

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)


class SharedSum(torch.autograd.Function):
    """A linear map whose weight gradient several threads sum."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum the gradient of the weight in eight parts."""
        x, weight = ctx.saved_tensors
        total, lock = torch.zeros_like(weight), threading.Lock()

        def add(part: slice) -> None:
            product = grad[part].T @ x[part]
            with lock:
                total.add_(product)

        parts = [slice(i, i + 512) for i in range(0, len(x), 512)]
        threads = [threading.Thread(target=add, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return grad @ weight, total


class Linear(nn.Linear):
    """A linear layer with that backward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply and add the bias."""
        return SharedSum.apply(x, self.weight) + self.bias


inputs, targets = torch.randn(4096, 64), torch.randn(4096, 16)
model = Linear(64, 16)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(10):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
