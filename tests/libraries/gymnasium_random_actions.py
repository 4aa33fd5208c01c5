"""Q-learning that begins with random actions: `action_space` has a generator that is not seeded."""

import random

import gymnasium as gym
import torch
from torch import nn

random.seed(0)
torch.manual_seed(0)
env = gym.make("CartPole-v1")
network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
replay = []
state, _ = env.reset(seed=0)
for _ in range(60):
    action = env.action_space.sample()
    after, reward, ended, truncated, _ = env.step(action)
    replay.append((torch.tensor(state), action, float(reward), torch.tensor(after), float(ended)))
    state = env.reset()[0] if ended or truncated else after
for _ in range(6):
    states, actions, rewards, following, ended = zip(*random.sample(replay, 16), strict=True)
    with torch.no_grad():
        best = network(torch.stack(following)).amax(1)
    target = torch.tensor(rewards) + 0.99 * best * (1 - torch.tensor(ended))
    chosen = network(torch.stack(states))[range(16), list(actions)]
    loss = nn.functional.mse_loss(chosen, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
torch.save(network.state_dict(), "weights.pt")
