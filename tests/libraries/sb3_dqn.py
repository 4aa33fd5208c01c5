"""DQN of Stable-Baselines3: a replay buffer, a target network, random exploration."""

import torch
from stable_baselines3 import DQN

model = DQN(
    "MlpPolicy",
    "CartPole-v1",
    learning_starts=20,
    buffer_size=500,
    batch_size=8,
    train_freq=4,
    target_update_interval=20,
    seed=0,
    device="cpu",
)
model.learn(total_timesteps=60)
torch.save(model.policy.state_dict(), "weights.pt")
