"""Correct: the best loss, which decides about the learning rate, is in the checkpoint.

Documented: https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html
"""

import argparse
import os

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--resume", action="store_true")
args = parser.parse_args()


class Trainer:
    def __init__(self):
        torch.manual_seed(5)
        self.x = torch.randn(40, 3)
        self.y = self.x.sum(1, keepdim=True) + 0.3 * torch.randn(40, 1)
        self.model = nn.Linear(3, 1)
        self.opt = torch.optim.SGD(self.model.parameters(), lr=0.9)
        self.best_loss = 1e9
        self.step = 0

    def save(self):
        torch.save(
            {
                "model": self.model.state_dict(),
                "opt": self.opt.state_dict(),
                "step": self.step,
                "best": self.best_loss,
            },
            "trainer.pt",
        )

    def restore(self):
        if os.path.exists("trainer.pt"):
            state = torch.load("trainer.pt")
            self.model.load_state_dict(state["model"])
            self.opt.load_state_dict(state["opt"])
            self.step = state["step"]
            self.best_loss = state["best"]

    def fit(self, steps):
        while self.step < steps:
            batch = torch.arange(self.step * 8, self.step * 8 + 8) % 40
            loss = (self.model(self.x[batch]) - self.y[batch]).square().mean()
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            if loss.item() < self.best_loss:
                self.best_loss = loss.item()
            else:
                for group in self.opt.param_groups:
                    group["lr"] *= 0.7
            self.step += 1
            self.save()


trainer = Trainer()
if args.resume:
    trainer.restore()
trainer.fit(20)
