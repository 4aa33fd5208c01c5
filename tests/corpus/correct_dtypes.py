"""Correct: complex, bfloat16, double, transposed and empty parameters."""

import torch
from torch import nn

torch.manual_seed(0)


class Mixed(nn.Module):
    """Parameters of many types."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.randn(9, dtype=torch.complex64))
        self.coarse = nn.Parameter(torch.randn(16, 4, dtype=torch.bfloat16))
        self.transposed = nn.Parameter(torch.randn(4, 16).T)
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.empty = nn.Parameter(torch.zeros(0, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter, then map linearly."""
        filtered = torch.fft.irfft(torch.fft.rfft(x) * self.spectrum.conj(), n=16)
        return filtered @ (self.coarse.float() + self.transposed) * self.scale + self.empty.sum()


inputs = torch.randn(32, 16)
model = Mixed()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(6):
    optimizer.zero_grad()
    model(inputs).square().mean().backward()
    optimizer.step()

print([p.detach().abs().double().sum().item() for p in model.parameters()])
