"""Records a PyTorch training from inside its process, without changing its result.

The package runs in the user's interpreter. It needs PyTorch, the standard library and Python 3.9,
and imports no other part of xorbench, which may not be installed there.
"""
