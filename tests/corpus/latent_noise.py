"""Between encoder and decoder, noise is added from an unseeded generator.

Report: https://github.com/RasmussenLab/vamb/issues/46
"""

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
rng = np.random.default_rng()


class Encoder(nn.Sequential):
    """From a signal to a code."""


class Decoder(nn.Sequential):
    """From a code to a signal."""


encoder = Encoder(nn.Linear(20, 8), nn.Tanh())
decoder = Decoder(nn.Linear(8, 20))
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
signals = torch.sin(torch.arange(20) * torch.rand(32, 1))

for _ in range(6):
    optimizer.zero_grad()
    code = encoder(signals)
    code = code + torch.from_numpy(rng.normal(0, 0.1, code.shape)).float()
    loss = nn.functional.mse_loss(decoder(code), signals)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in [*encoder.parameters(), *decoder.parameters()]))
