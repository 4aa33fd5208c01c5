"""A Keras model in a loop of PyTorch, as the guide of Keras writes it."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input(shape=(8,)),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(3),
    ]
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
for step in range(6):
    inputs, targets = torch.randn(16, 8), torch.randint(3, (16,))
    logits = model(inputs, training=True)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
torch.save(model.state_dict(), "weights.pt")
