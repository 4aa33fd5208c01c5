"""The training: data, model, loop, digests, faults. These modules import torch."""
