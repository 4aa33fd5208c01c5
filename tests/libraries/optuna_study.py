"""The example of Optuna: a study of three trials, each of which trains a model."""

import optuna
import torch
from torch import nn


def objective(trial: optuna.Trial) -> float:
    torch.manual_seed(trial.number)
    width = trial.suggest_int("width", 4, 16)
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(4):
        x = torch.randn(16, 4)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), f"weights-{trial.number}.pt")
    return loss.item()


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=10))
study.optimize(objective, n_trials=3)
print(study.best_params)
