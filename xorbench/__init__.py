"""xorbench: does this PyTorch machine train right, to the same bits, and as fast as it should?"""

__version__ = "0.1.0"
