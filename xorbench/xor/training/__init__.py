"""The training itself: data, model, loop, digests, faults. The packages here import torch."""
