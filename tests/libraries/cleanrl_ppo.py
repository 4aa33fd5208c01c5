"""PPO on CartPole in one file, after CleanRL: vector environments, GAE, clipped losses."""

import random

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

seed, num_envs, num_steps, updates, gamma, lam, clip = 1, 2, 16, 2, 0.99, 0.95, 0.2


class Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        self.actor = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
        for layer in [*self.critic, *self.actor]:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, 2**0.5)

    def act(self, x: torch.Tensor, action: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        choice = Categorical(logits=self.actor(x))
        action = choice.sample() if action is None else action
        return action, choice.log_prob(action), choice.entropy(), self.critic(x).flatten()


random.seed(seed)
np.random.seed(seed)
torch.manual_seed(seed)
envs = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1") for _ in range(num_envs)])
agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
obs = torch.tensor(envs.reset(seed=seed)[0])
done = torch.zeros(num_envs)
for update in range(updates):
    rollout: list[tuple[torch.Tensor, ...]] = []
    for _ in range(num_steps):
        with torch.no_grad():
            action, logprob, _, value = agent.act(obs)
        after, reward, ended, truncated, _ = envs.step(action.numpy())
        rollout.append((obs, action, logprob, value, torch.tensor(reward).float(), done))
        obs, done = torch.tensor(after), torch.tensor(ended | truncated).float()
    states, actions, logprobs, values, rewards, dones = map(torch.stack, zip(*rollout, strict=True))
    with torch.no_grad():
        advantages, last, next_value = torch.zeros_like(rewards), 0, agent.critic(obs).flatten()
        following = torch.cat([values[1:], next_value[None]])
        open_ = 1 - torch.cat([dones[1:], done[None]])
        for t in reversed(range(num_steps)):
            delta = rewards[t] + gamma * following[t] * open_[t] - values[t]
            advantages[t] = last = delta + gamma * lam * open_[t] * last
    flat = [x.flatten(0, 1) for x in (states, actions, logprobs, advantages, advantages + values)]
    indices = np.arange(num_envs * num_steps)
    for _ in range(2):
        np.random.shuffle(indices)
        for rows in np.split(indices, 2):
            x, a, old, adv, target = (part[rows] for part in flat)
            _, new, entropy, value = agent.act(x, a)
            ratio = (new - old).exp()
            surrogate = torch.min(adv * ratio, adv * ratio.clamp(1 - clip, 1 + clip)).mean()
            loss = 0.5 * (value - target).square().mean() - surrogate - 0.01 * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    print(update, loss.item())
torch.save(agent.state_dict(), "weights.pt")
