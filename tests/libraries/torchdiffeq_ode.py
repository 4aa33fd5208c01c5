"""The demo of torchdiffeq: a neural ODE learns a spiral, with the adjoint method."""

import torch
from torch import nn
from torchdiffeq import odeint, odeint_adjoint

torch.manual_seed(0)
true_A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
t = torch.linspace(0.0, 5.0, 40)
true_y = odeint(lambda _, y: y**3 @ true_A, torch.tensor([[2.0, 0.0]]), t)


class ODEFunc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.net(y**3)


func = ODEFunc()
optimizer = torch.optim.RMSprop(func.parameters(), lr=1e-3)
for step in range(5):
    starts = torch.randint(0, 30, (8,))
    target = torch.stack([true_y[starts + i] for i in range(5)])
    optimizer.zero_grad()
    loss = (odeint_adjoint(func, true_y[starts], t[:5]) - target).abs().mean()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
torch.save(func.state_dict(), "weights.pt")
