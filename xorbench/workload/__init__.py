"""The training itself: data, model, loop, digests, faults. The rooms here import torch."""
