"""The average of the weights begins again, from the weights of the checkpoint.

Documented: https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html
"""

import sys

import torch
from torch import nn


class EMA:
    def __init__(self, model, decay=0.95):
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.named_parameters()}

    def update(self, model):
        for k, v in model.named_parameters():
            self.shadow[k].mul_(self.decay).add_(v.detach(), alpha=1 - self.decay)

    def predict(self, model, x):
        return torch.func.functional_call(model, self.shadow, (x,))


def load(model, optimizer):
    checkpoint = torch.load("mean_teacher.pt")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return checkpoint["iteration"]


torch.manual_seed(9)
inputs = torch.randn(30, 6)
model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
iteration = load(model, optimizer) if "--resume" in sys.argv else 0
ema = EMA(model)
while iteration < 21:
    x = inputs[torch.arange(iteration, iteration + 5) % 30]
    with torch.no_grad():
        target = ema.predict(model, x + 0.1)
    loss = (model(x) - target).square().mean() + (model(x) - x[:, :2]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    ema.update(model)
    iteration += 1
    if iteration % 3 == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "iteration": iteration}, "mean_teacher.pt")
