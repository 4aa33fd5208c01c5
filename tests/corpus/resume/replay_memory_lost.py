"""The generators are restored, but the replay memory that they sample from is empty.

Documented: https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html
"""

import random
import sys
from collections import deque, namedtuple
from pathlib import Path

import torch
from torch import nn

Transition = namedtuple("Transition", "state action reward")


class Memory:
    def __init__(self, capacity):
        self.items = deque(maxlen=capacity)

    def push(self, *args):
        self.items.append(Transition(*args))

    def sample(self, n):
        return random.sample(self.items, min(n, len(self.items)))


def rng():
    return {"torch": torch.get_rng_state(), "python": random.getstate()}


random.seed(0)
torch.manual_seed(0)
q = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
opt = torch.optim.Adam(q.parameters(), lr=1e-3)
memory = Memory(100)
first = 0
path = Path("dqn.pt")
if "--resume" in sys.argv:
    saved = torch.load(path, weights_only=False)
    q.load_state_dict(saved["q"])
    opt.load_state_dict(saved["opt"])
    torch.set_rng_state(saved["rng"]["torch"])
    random.setstate(saved["rng"]["python"])
    first = saved["t"]
for t in range(first, 24):
    state = torch.randn(2)
    action = random.randrange(2)
    memory.push(state, action, float(state[action]))
    batch = Transition(*zip(*memory.sample(6), strict=True))
    states, actions = torch.stack(batch.state), torch.tensor(batch.action)
    values = q(states).gather(1, actions[:, None]).squeeze(1)
    loss = nn.functional.smooth_l1_loss(values, torch.tensor(batch.reward))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if t % 3 == 2:
        torch.save({"q": q.state_dict(), "opt": opt.state_dict(), "rng": rng(), "t": t + 1}, path)
