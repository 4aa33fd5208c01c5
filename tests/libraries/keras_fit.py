"""The quickstart of Keras on PyTorch: a sequential model, `compile` and `fit`."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

keras.utils.set_random_seed(0)
x = np.random.rand(64, 8, 8, 1).astype("float32")
y = np.random.randint(0, 10, 64)
model = keras.Sequential(
    [
        keras.Input(shape=(8, 8, 1)),
        keras.layers.Conv2D(4, kernel_size=(3, 3), activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
model.fit(x, y, batch_size=16, epochs=2, validation_split=0.25, verbose=2)
model.save("final.keras")
torch.save([torch.as_tensor(np.asarray(w)) for w in model.get_weights()], "weights.pt")
