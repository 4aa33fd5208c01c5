"""The quickstart of pytorch-tabnet: `TabNetClassifier.fit` with early stopping."""

import numpy as np
import torch
from pytorch_tabnet.tab_model import TabNetClassifier

generator = np.random.default_rng(0)
X = generator.normal(size=(120, 6)).astype("float32")
y = (X[:, 0] + X[:, 1] > 0).astype(int)
classifier = TabNetClassifier(n_d=4, n_a=4, n_steps=2, seed=0, device_name="cpu")
classifier.fit(
    X[:96],
    y[:96],
    eval_set=[(X[96:], y[96:])],
    max_epochs=2,
    patience=2,
    batch_size=32,
    virtual_batch_size=16,
)
torch.save(classifier.network.state_dict(), "weights.pt")
