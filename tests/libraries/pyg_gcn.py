"""The introduction of PyTorch Geometric: a two-layer GCN on one graph."""

import torch
import torch.nn.functional as F
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.utils import erdos_renyi_graph

seed_everything(0)
edges = erdos_renyi_graph(40, 0.1)
mask = torch.rand(40) < 0.5
data = Data(torch.randn(40, 8), edges, y=torch.randint(0, 3, (40,)), train_mask=mask)


class GCN(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = GCNConv(8, 16), GCNConv(16, 3)

    def forward(self, data: Data) -> torch.Tensor:
        x = F.dropout(F.relu(self.conv1(data.x, data.edge_index)), training=self.training)
        return F.log_softmax(self.conv2(x, data.edge_index), dim=1)


model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
model.train()
for _ in range(8):
    optimizer.zero_grad()
    out = model(data)
    loss = F.nll_loss(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
model.eval()
print((model(data).argmax(dim=1) == data.y).float().mean().item())
torch.save(model.state_dict(), "weights.pt")
