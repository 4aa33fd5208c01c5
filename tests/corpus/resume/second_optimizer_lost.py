"""The checkpoint has only one of two optimizers.

Report: https://github.com/omertov/encoder4editing/issues/22
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


generator = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
steps_generator = torch.optim.Adam(generator.parameters(), lr=0.01)
steps_critic = torch.optim.Adam(critic.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    generator.load_state_dict(state["generator"])
    critic.load_state_dict(state["critic"])
    steps_generator.load_state_dict(state["steps_generator"])
    start = state["round"]

for one in range(start, STEPS // 2):
    numbers = batch(one)
    made = generator(inputs[numbers])
    steps_critic.zero_grad()
    loss = critic(made.detach()).mean() - critic(targets[numbers]).mean()
    loss.backward()
    steps_critic.step()
    steps_generator.zero_grad()
    (-critic(made).mean()).backward()
    steps_generator.step()
    if (one + 1) % 2 == 0:
        state = {"generator": generator.state_dict(), "critic": critic.state_dict()}
        state |= {"steps_generator": steps_generator.state_dict(), "round": one + 1}
        torch.save(state, CHECKPOINT)
