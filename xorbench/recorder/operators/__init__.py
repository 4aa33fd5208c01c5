"""Compares the operators of a training with float64 references.

The package runs in the user's process, with torch, NumPy and the standard library. The recorder
imports it only if `check --operators` asks for it.
"""
