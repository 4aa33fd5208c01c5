"""The tutorial of the compiled optimizer: `torch.compile` of a function that steps."""

import torch

torch.manual_seed(0)
model = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(3)])
optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=5)


@torch.compile(fullgraph=False)
def step() -> None:
    optimizer.step()
    scheduler.step()


for _ in range(5):
    loss = model(torch.rand(4, 8)).sum()
    optimizer.zero_grad()
    loss.backward()
    step()
    print(loss.item())
torch.save(model.state_dict(), "weights.pt")
