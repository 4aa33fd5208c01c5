"""Digests of `examples/xor.py`, an implementation of the workload that does not import xorbench.

It is an independent reference for the harness: both implement docs/workload.md.
`python tests/reference.py` prints a table of the digests.
"""

import hashlib
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import xor


def digest(state):
    h = hashlib.sha256()
    for name, tensor in state.items():
        dtype = str(tensor.dtype).replace("torch.", "")
        shape = ",".join(str(n) for n in tensor.shape)
        h.update(name.encode() + b"\x00" + dtype.encode() + b"\x00" + shape.encode() + b"\x00")
        h.update(tensor.numpy().astype(tensor.numpy().dtype.newbyteorder("<")).tobytes())
    return h.hexdigest()


def train(seed=0, batch_size=128, drop_last=True, epochs=100):
    """Digest of the trained weights, one digest per epoch, correct predictions of 500 points."""
    device = torch.device("cpu")
    train_set = xor.XORDataset(2500, xor.stream(seed, "train"))
    test_set = xor.XORDataset(500, xor.stream(seed, "test"))
    with torch.random.fork_rng():
        torch.manual_seed(xor.stream(seed, "init"))
        model = xor.SimpleClassifier()
    shuffle = torch.Generator().manual_seed(xor.stream(seed, "shuffle"))
    loader = xor.make_loader(train_set, batch_size, drop_last, shuffle)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    epoch_digests = []
    for _ in range(epochs):
        xor.train_epoch(model, loader, optimizer, device)
        epoch_digests.append(digest(model.state_dict()))
    correct = xor.evaluate(model, test_set, device)
    return digest(model.state_dict()), epoch_digests, correct


if __name__ == "__main__":
    for batch_size in (32, 64, 128, 256):
        for drop_last in (True, False):
            weights, _, correct = train(batch_size=batch_size, drop_last=drop_last)
            print(
                f"seed 0, batch {batch_size:3}, drop_last {drop_last!s:5}: {weights} {correct}/500"
            )
