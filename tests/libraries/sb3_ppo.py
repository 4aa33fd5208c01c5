"""The quickstart of Stable-Baselines3: PPO on CartPole, with a seed."""

import torch
from stable_baselines3 import PPO

model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, n_epochs=2, seed=0, device="cpu")
model.learn(total_timesteps=64)
model.save("ppo_cartpole")
torch.save(model.policy.state_dict(), "weights.pt")
