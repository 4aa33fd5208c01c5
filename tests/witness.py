"""An independent reading of the workload, as one would write it in a notebook.

It imports nothing of xorbench: where its digests equal the harness's, two readings of the same
text agree. `python tests/witness.py` prints a table of them.
"""

import hashlib

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def stream(seed, name):
    text = f"xorbench-1/{name}/{seed}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class XORDataset(Dataset):
    def __init__(self, size, std, seed, name):
        g = torch.Generator()
        g.manual_seed(stream(seed, name))
        data = torch.randint(0, 2, (size, 2), dtype=torch.float32, generator=g)
        self.label = (data[:, 0] != data[:, 1]).long()
        data += std * torch.randn((size, 2), generator=g)
        self.data = data

    def __len__(self):
        return self.data.shape[0]

    def __getitem__(self, idx):
        return self.data[idx], self.label[idx]


class SimpleClassifier(nn.Module):
    def __init__(self, num_inputs, num_hidden, num_outputs):
        super().__init__()
        self.layer1 = nn.Linear(num_inputs, num_hidden)
        self.act_fn = nn.Tanh()
        self.layer2 = nn.Linear(num_hidden, num_outputs)

    def forward(self, x):
        x = self.layer1(x)
        x = self.act_fn(x)
        return self.layer2(x)


def digest(state):
    h = hashlib.sha256()
    for name, tensor in state.items():
        dtype = str(tensor.dtype).replace("torch.", "")
        shape = ",".join(str(n) for n in tensor.shape)
        h.update(name.encode() + b"\x00" + dtype.encode() + b"\x00" + shape.encode() + b"\x00")
        h.update(tensor.numpy().astype(tensor.numpy().dtype.newbyteorder("<")).tobytes())
    return h.hexdigest()


def train(seed=0, batch_size=128, drop_last=True, epochs=100):
    """Digest of the trained weights, one digest an epoch, right answers on 500 test points."""
    train_set = XORDataset(2500, 0.1, seed, "train")
    test_set = XORDataset(500, 0.1, seed, "test")
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed, "init"))
        model = SimpleClassifier(2, 4, 1)
    shuffle = torch.Generator()
    shuffle.manual_seed(stream(seed, "shuffle"))
    loader = DataLoader(
        train_set, batch_size=batch_size, shuffle=True, drop_last=drop_last, generator=shuffle
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_module = nn.BCEWithLogitsLoss()
    epoch_digests = []
    model.train()
    for _ in range(epochs):
        for data_inputs, data_labels in loader:
            preds = model(data_inputs).squeeze(dim=1)
            loss = loss_module(preds, data_labels.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch_digests.append(digest(model.state_dict()))
    model.eval()
    correct = 0
    with torch.no_grad():
        for data_inputs, data_labels in DataLoader(test_set, batch_size=128, shuffle=False):
            preds = torch.sigmoid(model(data_inputs).squeeze(dim=1))
            correct += ((preds >= 0.5).long() == data_labels).sum().item()
    return digest(model.state_dict()), epoch_digests, correct


if __name__ == "__main__":
    for batch_size in (32, 64, 128, 256):
        for drop_last in (True, False):
            weights, _, correct = train(batch_size=batch_size, drop_last=drop_last)
            print(
                f"seed 0, batch {batch_size:3}, drop_last {drop_last!s:5}: {weights} {correct}/500"
            )
