"""Messages are summed with `index_put_(accumulate=True)`, on a CPU by threads in any order.

PyTorch's own operator is nondeterministic here. It is deterministic with one thread, and after
`torch.use_deterministic_algorithms(True)`.

Report: https://github.com/pytorch/pytorch/issues/51366
"""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(4)

NODES, EDGES, WIDTH = 40, 20_000, 8
source = torch.randint(0, NODES, (EDGES,))
target = torch.randint(0, NODES, (EDGES,))
features = torch.randn(NODES, WIDTH)
wanted = torch.randn(NODES, WIDTH)


class Messages(nn.Module):
    """Each node receives what its neighbours send."""

    def __init__(self) -> None:
        super().__init__()
        self.send = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum the messages of all edges."""
        sent = self.send(x).index_select(0, source)
        received = torch.zeros_like(x)
        return received.index_put_((target,), sent, accumulate=True) / EDGES * NODES


model = Messages()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(8):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(features), wanted)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
