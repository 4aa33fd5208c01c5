"""An equivariant convolution with e3nn: spherical harmonics and a tensor product."""

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet

torch.manual_seed(0)
irreps_in, irreps_sh = o3.Irreps("4x0e + 2x1o"), o3.Irreps.spherical_harmonics(lmax=2)
irreps_out = o3.Irreps("2x0e")


class Convolution(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tp = o3.FullyConnectedTensorProduct(
            irreps_in, irreps_sh, irreps_out, shared_weights=False
        )
        self.fc = FullyConnectedNet([3, 16, self.tp.weight_numel], torch.relu)

    def forward(self, features: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        source, target = torch.triu_indices(len(positions), len(positions), 1)
        vector = positions[target] - positions[source]
        harmonics = o3.spherical_harmonics(irreps_sh, vector, normalize=True)
        lengths = vector.norm(dim=1, keepdim=True) ** torch.arange(3)
        messages = self.tp(features[source], harmonics, self.fc(lengths))
        zeros = features.new_zeros(len(positions), irreps_out.dim)
        return zeros.index_add(0, target, messages)


model = Convolution()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(5):
    features, positions = irreps_in.randn(6, -1), torch.randn(6, 3)
    loss = (model(features, positions).sum() - positions.norm(dim=1).sum()).square()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
torch.save(model.state_dict(), "weights.pt")
