"""Correct: a generator and its critic, each with its optimizer, all in the checkpoint.

See https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html
"""

import sys
from pathlib import Path

import torch
from torch import nn

CHECKPOINT = Path("last.pt")
STEPS, EVERY, SIZE, PER_EPOCH = 18, 4, 8, 6

torch.manual_seed(0)
inputs = torch.randn(SIZE * PER_EPOCH, 6)
targets = inputs @ torch.randn(6, 2)


def batch(step: int) -> torch.Tensor:
    """The indices of a step's points, in a new order in each epoch."""
    epoch, place = divmod(step, PER_EPOCH)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
    return order[place * SIZE : (place + 1) * SIZE]


generator = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
parts = {"generator": generator, "critic": critic}
parts["steps_generator"] = torch.optim.Adam(generator.parameters(), lr=0.01)
parts["steps_critic"] = torch.optim.SGD(critic.parameters(), lr=0.01, momentum=0.9)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    start = state["round"]
    torch.set_rng_state(state["torch"])

for one in range(start, STEPS):
    numbers = batch(one)
    made = generator(torch.randn(SIZE, 6))
    parts["steps_critic"].zero_grad()
    loss = critic(made.detach()).mean() - critic(targets[numbers]).mean()
    loss.backward()
    parts["steps_critic"].step()
    if one % 2:
        parts["steps_generator"].zero_grad()
        (-critic(made).mean()).backward()
        parts["steps_generator"].step()
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**state, "round": one + 1, "torch": torch.get_rng_state()}, CHECKPOINT)
