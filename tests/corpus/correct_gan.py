"""Correct: a generator and a discriminator, each with its own optimizer.

See https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html
"""

import torch
from torch import nn

torch.manual_seed(0)
real_data = torch.randn(64, 2) * 0.2 + 1
generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=0.01, betas=(0.5, 0.999))
discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.01)
criterion = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)

for _ in range(5):
    real = real_data[torch.randperm(64)[:16]]
    fake = generator(torch.randn(16, 4))
    discriminator_optimizer.zero_grad()
    real_loss = criterion(discriminator(real), ones)
    fake_loss = criterion(discriminator(fake.detach()), zeros)
    real_loss.backward()
    fake_loss.backward()
    discriminator_optimizer.step()
    generator_optimizer.zero_grad()
    criterion(discriminator(fake), ones).backward()
    generator_optimizer.step()

both = [*generator.parameters(), *discriminator.parameters()]
print(sum(p.double().sum().item() for p in both))
