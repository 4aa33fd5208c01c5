"""The quickstart of skorch: a network as a scikit-learn classifier, with a validation split."""

import numpy as np
import torch
from sklearn.datasets import make_classification
from skorch import NeuralNetClassifier
from torch import nn

torch.manual_seed(0)
X, y = make_classification(100, 20, n_informative=10, random_state=0)
X, y = X.astype(np.float32), y.astype(np.int64)


class MyModule(nn.Module):
    def __init__(self, num_units: int = 10) -> None:
        super().__init__()
        self.dense0, self.dense1 = nn.Linear(20, num_units), nn.Linear(num_units, num_units)
        self.dropout, self.output = nn.Dropout(0.5), nn.Linear(num_units, 2)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        X = self.dropout(torch.relu(self.dense0(X)))
        return torch.softmax(self.output(torch.relu(self.dense1(X))), dim=-1)


net = NeuralNetClassifier(
    MyModule, max_epochs=3, lr=0.1, batch_size=32, iterator_train__shuffle=True
)
net.fit(X, y)
print(net.predict_proba(X)[:2])
torch.save(net.module_.state_dict(), "weights.pt")
