"""The example of PyTorch Metric Learning: a triplet loss, a miner, a sampler per class."""

import numpy as np
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
np.random.seed(0)
labels = torch.randint(4, (64,))
data = TensorDataset(torch.randn(64, 10) + labels[:, None], labels)
sampler = MPerClassSampler(labels, m=4, length_before_new_iter=48)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 8))
distance = distances.CosineSimilarity()
reducer = reducers.ThresholdReducer(low=0)
loss_function = losses.TripletMarginLoss(margin=0.2, distance=distance, reducer=reducer)
mine = miners.TripletMarginMiner(margin=0.2, distance=distance, type_of_triplets="all")
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for inputs, targets in DataLoader(data, batch_size=16, sampler=sampler):
    optimizer.zero_grad()
    embeddings = model(inputs)
    loss = loss_function(embeddings, targets, mine(embeddings, targets))
    loss.backward()
    optimizer.step()
    print(loss.item(), mine.num_triplets)
torch.save(model.state_dict(), "weights.pt")
