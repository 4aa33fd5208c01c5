"""Listens inside any PyTorch training, from its own process, without changing its bits.

The package runs in the user's interpreter: it needs PyTorch and the standard library, and Python
3.9. It imports nothing else of xorbench, which may not be installed there.
"""
